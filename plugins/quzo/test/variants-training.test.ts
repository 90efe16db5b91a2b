// Variants in a run of the method: what they change of a model, and that their logs rebuild it bit for bit.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { type Model, type Recipe, type RunEvent, read, type Tensor, tensorsOf } from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { rtn } from '@lowbit/rtn';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { afterAll, describe, expect, it } from 'vitest';
import { LOG_FILE, parseLog, type QuzoInput, quzo, replayLog } from '../src/index.js';
import { rankOf } from './statistics-oracle.js';

const dense = createToyModel({ seed: 11 });
const calibration = createToyTokens({ seed: 4, batchCount: 3, batchSize: 2, tokens: 16 });
const backend = await createOnnxBackend({ threads: 1, spin: false });
afterAll(() => backend.dispose());

async function tune(before: Recipe, options: QuzoInput) {
  const base = before.length > 0 ? (await quantize({ model: dense, backend, recipe: before })).model : dense;
  let log = '';
  const onEvent = (event: RunEvent): void => {
    if (event.type !== 'log' || event.record['file'] !== LOG_FILE) return;
    log = (event.record['lines'] as readonly object[]).map((line) => `${JSON.stringify(line)}\n`).join('');
  };
  const recipe = [quzo({ steps: 3, batchWindows: 2, judgeEvery: 3, keepBest: false, schedule: 'constant', ...options })];
  const { model: made } = await quantize({ model: base, backend, recipe, calibration, seed: 7, onEvent });
  const { trajectory, end } = parseLog(log, 'log');
  return { base, made, trajectory, end };
}

const elements = async (t: Tensor): Promise<Float64Array> => Float64Array.from((await read(t)) as Float32Array | Uint8Array);

/** Elements of the tensors that differ between two models, before and after. */
async function changes(base: Model, made: Model) {
  const after = tensorsOf(made);
  const found: { name: string; shape: readonly number[]; before: Float64Array; after: Float64Array }[] = [];
  for (const [name, t] of tensorsOf(base)) {
    const other = after.get(name);
    if (!other) continue; // below a new adapter its name is another
    const [one, two] = [await elements(t), await elements(other)];
    if (one.some((value, i) => value !== two[i])) found.push({ name, shape: t.shape, before: one, after: two });
  }
  return found;
}

const sets: Readonly<Record<string, readonly [Recipe, QuzoInput]>> = {
  'sparse-mezo on weights': [[], { preset: 'mezo', variant: 'sparse-mezo', learningRate: 1e-3 }],
  'sparse-mezo on codes': [[rtn({ bits: 4, groupSize: 16 })], { variant: 'sparse-mezo', epsilon: 0.5, learningRate: 30 }],
  'lozo on codes': [[rtn({ bits: 8, groupSize: 16 })], { variant: 'lozo', lozoInterval: 2, learningRate: 100 }],
  'kerzoo on scales': [[rtn({ bits: 4, groupSize: 16 })], { preset: 'qzo-int4', variant: 'kerzoo', learningRate: 1e-4 }],
  'fzoo on adapters': [[rtn({ bits: 4, groupSize: 16 })], { preset: 'zo-lora-int4', variant: 'fzoo', learningRate: 1e-4, queries: 3 }],
  'qes on codes': [[rtn({ bits: 4, groupSize: 16 })], { preset: 'qes-int4', variant: 'qes', learningRate: 2, queries: 3 }],
};

describe.each(Object.entries(sets))('%s', (_, [before, options]) => {
  it('changes the model as its log says', async () => {
    const { base, made, trajectory, end } = await tune(before, options);
    expect(trajectory.records.every(({ mu }) => mu.length > 0)).toBe(true);
    const again = tensorsOf(await replayLog(base, trajectory, { end }));
    for (const [name, t] of tensorsOf(made)) {
      const rebuilt = again.get(name);
      expect(rebuilt && (await read(rebuilt)), name).toEqual(await read(t));
    }
    const added = tensorsOf(made).size - tensorsOf(base).size; // new adapters
    expect(added + (await changes(base, made)).length).toBeGreaterThan(5);
  });
});

it('lozo: a step of one query changes every matrix by a matrix of the rank of its direction', async () => {
  const { base, made } = await tune([], { preset: 'mezo', variant: 'lozo', lozoRank: 2, learningRate: 1, steps: 1, judgeEvery: 1 });
  const found = await changes(base, made);
  expect(found.length).toBeGreaterThan(5);
  for (const { name, shape, before, after } of found) {
    const step = Float64Array.from(after, (value, i) => value - before[i]);
    expect(rankOf(step, shape[0], shape[1], 1e-3), name).toBe(2);
  }
});

it('sparse-mezo: weights above the threshold of their tensor stay as they are', async () => {
  const { base, made } = await tune([], {
    preset: 'mezo',
    variant: 'sparse-mezo',
    sparsity: 0.6,
    learningRate: 1e-3,
    steps: 1,
    judgeEvery: 1,
  });
  const found = await changes(base, made);
  expect(found.length).toBeGreaterThan(5);
  for (const { name, before, after } of found) {
    const sorted = before.map(Math.abs).sort();
    const trained = before.length - Math.round(0.6 * before.length);
    const limit = sorted[trained - 1];
    expect(
      before.every((value, i) => Math.abs(value) <= limit || after[i] === value),
      name,
    ).toBe(true);
    expect(before.filter((value, i) => after[i] !== value).length, name).toBeGreaterThan(0.9 * trained);
  }
});
