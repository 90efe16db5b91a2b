// Batches of a task: each example once, only what is predicted counts, and the loss is the one that float64 gives.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng, type FinetuneTask, type Model, read, readFloats, type TaskExamples, tensor, tensorsOf } from '@lowbit/core';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  calibrationTask,
  judgeTask,
  modelGradients,
  modelLoss,
  type TaskBatch,
  taskBatches,
  taskLoss,
  taskTraining,
} from '../src/index.js';

const backend = createReferenceBackend();

/** Examples of which a few tokens are predicted; those of weight 0 among them are never looked at. */
function examplesOf(rng: ReturnType<typeof createRng>, count: number, length: number, candidates?: Int32Array): TaskExamples {
  const tokens = Int32Array.from(rng.at('tokens').integers(count * length, 64));
  const weights = new Float32Array(count * length);
  for (let i = 0; i < count; i++) {
    const draws = rng.at('example', i).integers(4, length - 1);
    const predicted = candidates ? draws.subarray(0, 1) : draws.subarray(0, 1 + (i % 4));
    for (const t of predicted) {
      weights[i * length + t] = candidates ? 1 : 1 + (i % 3);
      if (candidates) tokens[i * length + t + 1] = candidates[i % candidates.length];
    }
  }
  return { count, length, tokens, weights };
}

function taskOf(seed: number, counts: readonly [number, number], length: number, candidates?: Int32Array): FinetuneTask {
  const rng = createRng(seed);
  const train = examplesOf(rng.at('train'), counts[0], length, candidates);
  const dev = examplesOf(rng.at('dev'), counts[1], length, candidates);
  return { description: 'test', hash: '', candidates, train, dev, protocol: {} };
}

const labels = Int32Array.of(41, 7, 12);
const all = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
const tasks = fc.record({
  seed: fc.nat(1000),
  train: fc.integer({ min: 1, max: 12 }),
  dev: fc.integer({ min: 1, max: 5 }),
  length: fc.integer({ min: 3, max: 9 }),
  size: fc.integer({ min: 1, max: 14 }),
  isLabelled: fc.boolean(),
});

async function batchesOf(task: FinetuneTask, part: 'train' | 'dev', size: number): Promise<TaskBatch[]> {
  const batches = taskBatches(task, part, all(task[part].count), size);
  return Promise.all(all(batches.length).map((i) => batches.at(i)));
}

/** Mean of −log softmax at what is weighted, from the logits of every example, in plain loops. */
async function expected(model: Model, task: FinetuneTask, part: 'train' | 'dev'): Promise<{ loss: number; accuracy: number }> {
  const { count, length, tokens, weights } = task[part];
  const logits = await readFloats((await backend.evaluate([model.forward(tensor(tokens, [count, length]))]))[0]);
  const vocabulary = logits.length / (count * length);
  let [loss, hits, total] = [0, 0, 0];
  for (let i = 0; i < count * length; i++) {
    if (weights[i] === 0) continue;
    const known = task.candidates ?? Int32Array.from(all(vocabulary));
    const own = Array.from(known, (token) => logits[i * vocabulary + token]);
    const target = known.indexOf(tokens[i + 1]);
    loss += weights[i] * (Math.log(own.reduce((sum, x) => sum + Math.exp(x), 0)) - own[target]);
    hits += own[target] === Math.max(...own) ? weights[i] : 0;
    total += weights[i];
  }
  return { loss: loss / total, accuracy: hits / total };
}

describe('taskBatches', () => {
  it('has each example once, one shape for all batches, and weights on nothing but what is predicted', async () => {
    await fc.assert(
      fc.asyncProperty(tasks, async ({ seed, train, dev, length, size, isLabelled }) => {
        const task = taskOf(seed, [train, dev], length, isLabelled ? labels : undefined);
        const batches = await batchesOf(task, 'train', size);
        const { tokens, weights } = task.train;
        const sum = weights.reduce((a, b) => a + b, 0);
        const found = new Float64Array(weights.length);
        for (const [index, batch] of batches.entries()) {
          expect(batch.tokens.shape).toEqual([size, length]);
          expect(batch.positions.length).toBe(batches[0].positions.length);
          const rows = (await read(batch.tokens)).subarray(0, (Math.min(train, (index + 1) * size) - index * size) * length);
          expect(Array.from(rows)).toEqual(Array.from(tokens.subarray(index * size * length, index * size * length + rows.length)));
          for (const [i, position] of batch.positions.entries()) {
            if (batch.weights[i] === 0) continue;
            const at = index * size * length + position;
            found[at] += (batch.weights[i] * sum) / batches.length;
            const target = batch.targets[i];
            expect(isLabelled ? labels[target] : target).toBe(tokens[at + 1]);
          }
        }
        for (const [i, weight] of found.entries()) expect(weight).toBeCloseTo(weights[i], 4);
      }),
      { numRuns: 60 },
    );
  });

  it('both parts have equally shaped batches, so that they share programs', async () => {
    const task = taskOf(3, [7, 2], 6);
    const [[train], [dev]] = [await batchesOf(task, 'train', 4), await batchesOf(task, 'dev', 4)];
    expect(dev.positions.length).toBe(train.positions.length);
    expect(dev.tokens.shape).toEqual(train.tokens.shape);
  });

  it('says what it cannot do', async () => {
    const nothing = { ...taskOf(1, [2, 2], 5), train: { count: 2, length: 5, tokens: new Int32Array(10), weights: new Float32Array(10) } };
    expect(() => taskBatches(nothing, 'train', [0, 1], 2)).toThrow(/TASK_EMPTY: test/);
    expect(() => taskBatches(taskOf(1, [2, 2], 5), 'train', [], 2)).toThrow(/TASK_EMPTY/);
    const strange = taskBatches({ ...taskOf(1, [2, 2], 5, labels), candidates: Int32Array.of(63, 62) }, 'train', [0, 1], 2);
    expect(() => strange.at(0)).toThrow(/TASK_LABEL: test: token 41/);
  });
});

describe('taskTraining', () => {
  it('draws an order by address, and batches no larger than there are examples', async () => {
    const task = taskOf(5, [6, 3], 5);
    const { train, dev } = taskTraining(task, 32, createRng(1));
    expect([train.size, train.length, dev.length]).toEqual([6, 1, 1]);
    const again = taskTraining(task, 32, createRng(1)).train;
    const other = taskTraining(task, 32, createRng(2)).train;
    const rows = async (batch: TaskBatch | Promise<TaskBatch>): Promise<string> => String(await read((await batch).tokens));
    expect(await rows(again.at(0))).toBe(await rows(train.at(0)));
    expect(await rows(other.at(0))).not.toBe(await rows(train.at(0)));
    expect(await rows(taskTraining(task, 32).train.at(0))).toBe(String(task.train.tokens));
  });
});

describe('the loss of a task', () => {
  const model = createToyModel({ seed: 2, blockCount: 2 });

  it.each([
    ['over the vocabulary', undefined],
    ['over label words', labels],
  ])('%s is the mean over what is predicted, and so is the accuracy', async (_what, candidates) => {
    const task = taskOf(11, [7, 5], 8, candidates);
    for (const [part, size] of [
      ['train', 3],
      ['train', 16],
      ['dev', 2],
    ] as const) {
      const batches = taskBatches(task, part, all(task[part].count), size);
      const { loss, accuracy } = await judgeTask(backend, model, batches);
      const right = await expected(model, task, part);
      expect(loss).toBeCloseTo(right.loss, 6);
      expect(accuracy).toBeCloseTo(right.accuracy, 6);
    }
  });

  it('does not see padding: other tokens after what is predicted change nothing', async () => {
    const task = taskOf(13, [4, 4], 8, labels);
    const { length, weights } = task.train;
    const tokens = task.train.tokens.map((token, i) => {
      const last = weights.subarray(i - (i % length), i - (i % length) + length).findLastIndex((w) => w > 0);
      return i % length > last + 1 ? 63 - token : token;
    });
    const padded = { ...task, train: { ...task.train, tokens } };
    const [was, is] = await Promise.all([task, padded].map((one) => judgeTask(backend, model, taskBatches(one, 'train', all(4), 2))));
    expect(is).toEqual(was);
  });

  it('has gradients: those of the predicted positions alone, in pieces or at once', async () => {
    const task = taskOf(17, [5, 2], 8);
    const [batch] = await batchesOf(task, 'train', 8);
    const name = 'model.layers.0.mlp.down_proj.weight';
    const weight = tensorsOf(model).get(name);
    if (!weight) throw new Error(`no ${name}`);
    const request = { backend, model, tokens: batch.tokens, positions: batch.positions, lossOf: taskLoss(batch) };
    const gradientsOf = (positionsAtOnce?: number) =>
      modelGradients({ ...request, positionsAtOnce, parameters: new Map([[name, weight]]) });
    const { gradients, loss } = await gradientsOf();
    expect(loss).toBeCloseTo((await expected(model, task, 'train')).loss, 6);
    const gradient = await readFloats(gradients.get(name) ?? weight);
    expect(await readFloats((await gradientsOf(3)).gradients.get(name) ?? weight)).toEqual(gradient);
    const values = await readFloats(weight);
    const at = gradient.reduce((best, g, i) => (Math.abs(g) > Math.abs(gradient[best]) ? i : best), 0);
    const lossAt = async (shift: number): Promise<number> => {
      const moved = tensor(
        values.map((w, i) => (i === at ? w + shift : w)),
        weight.shape,
      );
      const changed = model.map((t, path) => (path === name ? moved : t));
      return (await modelLoss({ ...request, model: changed })).loss;
    };
    const slope = ((await lossAt(2 ** -8)) - (await lossAt(-(2 ** -8)))) / 2 ** -7;
    expect(gradient[at]).toBeCloseTo(slope, 3);
  });
});

it('calibration windows are a task of every next token', async () => {
  const calibration = createToyTokens({ seed: 2 });
  const task = await calibrationTask(calibration, 0.25, createRng(3));
  expect(task.hash).toBe(calibration.hash);
  const { length } = task.train;
  expect(task.train.weights.every((w, i) => w === (i % length === length - 1 ? 0 : 1))).toBe(true);
  const rows = ({ tokens, count }: TaskExamples): string[] => all(count).map((i) => String(tokens.subarray(i * length, (i + 1) * length)));
  const given: string[] = [];
  for (let i = 0; i < calibration.length; i++) {
    const batch = Int32Array.from(await read(await calibration.at(i)));
    for (let start = 0; start < batch.length; start += length) given.push(String(batch.subarray(start, start + length)));
  }
  expect([...rows(task.train), ...rows(task.dev)].sort()).toEqual(given.sort());
  expect(task.dev.count).toBe(Math.max(1, Math.round(given.length / 4)));
  expect(await calibrationTask(calibration, 0, createRng(3))).toMatchObject({
    dev: { count: given.length },
    train: { count: given.length },
  });
});
