// What tests of training share: a toy model, text that can be learned, and ways to look at models.

import { type Backend, batchesOf, type Linear, type Model, read, readFloats, type TokenBatches, tensor, tensorsOf } from '@lowbit/core';
import { createToyModel } from '@lowbit/testkit';

export const dense: Model = createToyModel({ seed: 7, biases: true, outliers: 2 });

/** Text in which each token decides the next: 16 windows of 12. */
const text = Array.from({ length: 8 }, (_, batch) =>
  tensor(
    Int32Array.from({ length: 24 }, (_, i) => (7 * (Math.floor(i / 12) + 2 * batch) + 5 * (i % 12)) % 64),
    [2, 12],
  ),
);
export const arithmetic: TokenBatches = { ...batchesOf(text), hash: 'arithmetic', description: 'arithmetic' };

export function linearsOf(model: Model): Map<string, Linear> {
  return new Map(
    model.blocks.flatMap(({ path, linears }) =>
      Object.entries(linears).map(([name, linear]): [string, Linear] => [`${path}.${name}`, linear]),
    ),
  );
}

/** Elements of every tensor, by name. */
export async function elementsOf(model: { map: Model['map'] } | Parameters<typeof tensorsOf>[0]): Promise<Record<string, number[]>> {
  const entries = [...tensorsOf(model)].map(async ([name, t]) => [name, Array.from(await read(t))] as const);
  return Object.fromEntries(await Promise.all(entries));
}

/** Effective weights of every Linear, as the backend computes them. */
export async function weightsOf(backend: Backend, model: Model): Promise<Record<string, Float32Array>> {
  const linears = [...linearsOf(model)];
  const weights = await backend.evaluate(linears.map(([, linear]) => linear.effectiveWeight()));
  return Object.fromEntries(await Promise.all(linears.map(async ([path], i) => [path, await readFloats(weights[i])] as const)));
}
