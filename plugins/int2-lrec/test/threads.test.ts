// Equal seeds on engines with equal and with different numbers of threads.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { type Backend, type Recipe, type RunEvent, readFloats, tensorsOf } from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { afterAll, describe, expect, it } from 'vitest';
import { emef, lowRankCorrection, lrec } from '../src/index.js';
import { rounding } from './rounding.js';

/** Wide enough that products of matrices are shared among threads. */
const dense = createToyModel({ seed: 5, hiddenSize: 192, innerSize: 320, headCount: 6, vocabularySize: 512 });
const calibration = createToyTokens({ seed: 6, vocabularySize: 512, batchCount: 4, batchSize: 2, tokens: 32 });

const engines: Readonly<Record<string, Backend>> = {
  one: await createOnnxBackend({ threads: 1, spin: false }),
  two: await createOnnxBackend({ threads: 2, spin: false }),
  'two again': await createOnnxBackend({ threads: 2, spin: false }),
};
afterAll(() => Promise.all(Object.values(engines).map((engine) => engine.dispose())));

interface Run {
  /** Factors of the adapters, by name. */
  readonly factors: ReadonlyMap<string, Float32Array>;
  /** What the last step reported. */
  readonly after: number;
}

async function run(engine: string, recipe: Recipe): Promise<Run> {
  const after: number[] = [];
  const onEvent = (event: RunEvent): void => {
    const value = event.type === 'log' ? (event.record['klAfter'] ?? event.record['lossAfter']) : undefined;
    if (typeof value === 'number') after.push(value);
  };
  const { model } = await quantize({ model: dense, backend: engines[engine], recipe, calibration, seed: 7, onEvent });
  const factors = new Map<string, Float32Array>();
  for (const { path, linears } of model.blocks) {
    for (const [name, linear] of Object.entries(linears)) {
      for (const [factor, t] of tensorsOf(linear))
        if (/down|up$/.test(factor)) factors.set(`${path}.${name}.${factor}`, await readFloats(t));
    }
  }
  expect(factors.size).toBe(2 * 7 * 2);
  return { factors, after: after.at(-1) ?? Number.NaN };
}

/** Norm of a difference over the norm of what is compared with. */
function distance(a: Float32Array, b: Float32Array): number {
  return Math.hypot(...a.map((x, i) => x - b[i])) / Math.hypot(...b);
}

/** Relative. What is promised is equal bytes for equally many threads; one and two gave equal ones too where this was measured. */
const TOLERANCE = 1e-3;

const base = rounding({ bits: 2, groupSize: 32 });
const training = { rank: 3, batchWindows: 2, epochs: 2, learningRate: 2e-3, keepBest: false };
const recipes: Readonly<Record<string, Recipe>> = {
  lrec: [base, lrec(training)],
  'lrec from a closed form': [base, lowRankCorrection({ rank: 3 }), lrec(training)],
  emef: [base, emef(training)],
};

describe.each(Object.entries(recipes))('%s', (_, recipe) => {
  it('gives equal bytes with equally many threads, and the same but for rounding with others', async () => {
    const [one, two, again] = [await run('one', recipe), await run('two', recipe), await run('two again', recipe)];
    expect(again.factors).toEqual(two.factors);
    expect(again.after).toBe(two.after);
    const worst = Math.max(...[...two.factors].map(([name, values]) => distance(values, one.factors.get(name) as Float32Array)));
    expect(worst).toBeLessThanOrEqual(TOLERANCE);
    expect(Math.abs(two.after / one.after - 1)).toBeLessThanOrEqual(TOLERANCE);
  });
});
