// What tests of training share: a toy model, text that can be learned, a quick course, and ways to look at models.

import {
  type Backend,
  batchesOf,
  type Linear,
  type Model,
  type Recipe,
  type RunEvent,
  read,
  readFloats,
  type TokenBatches,
  tensor,
  tensorsOf,
} from '@lowbit/core';
import { type QuantizeOptions, quantize } from '@lowbit/pipeline';
import { createToyModel } from '@lowbit/testkit';
import type { QatInput } from '../src/index.js';

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

/** Twelve steps, judged three times on windows that are held out. */
export const quick: QatInput = {
  learningRate: 3e-3,
  scaleLearningRate: 1e-2,
  batchWindows: 4,
  windowsAtOnce: 4,
  epochs: 4,
  judgeEvery: 4,
  holdOut: 0.25,
};

/** What a run tells. */
export interface Outcome {
  readonly model: Model;
  readonly log: Readonly<Record<string, unknown>>;
  readonly rounds: readonly Readonly<Record<string, unknown>>[];
  readonly warnings: readonly string[];
}

export async function run(backend: Backend, recipe: Recipe, more: Partial<QuantizeOptions> = {}): Promise<Outcome> {
  const records: Readonly<Record<string, unknown>>[] = [];
  const onEvent = (event: RunEvent): void => {
    if (event.type === 'log') records.push(event.record);
  };
  const { model, warnings } = await quantize({ model: dense, backend, recipe, calibration: arithmetic, seed: 3, onEvent, ...more });
  const log = records.findLast(({ keptRound }) => keptRound !== undefined) ?? {};
  return { model, log, rounds: records.filter(({ round }) => round !== undefined), warnings: warnings.map(({ code }) => code) };
}
