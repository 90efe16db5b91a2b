// Scores on a task: equal to their definitions, example by example in float64.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng, DenseLinear, type FinetuneTask, type TaskExamples, tensor } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { taskEvaluator } from '../src/index.js';
import { logProbabilities, toyModel } from './toy.js';

const backend = createReferenceBackend();
const model = toyModel();
const labels = Int32Array.of(20, 3, 9);

function taskOf(candidates: Int32Array | undefined, count = 7, length = 6): FinetuneTask {
  const tokens = Int32Array.from(createRng(3).integers(count * length, 24));
  const weights = new Float32Array(count * length);
  for (let i = 0; i < count; i++) {
    const last = 2 + (i % (length - 2));
    if (candidates) tokens[i * length + last] = candidates[i % candidates.length];
    weights.fill(1, i * length + (candidates ? last - 1 : 0), i * length + last);
  }
  const part: TaskExamples = { count, length, tokens, weights };
  return { description: 'test', hash: 'h', candidates, train: part, dev: part, protocol: { template: '{a} {b}', taskSha256: 'h' } };
}

/** Loss and hits of every example's predictions. */
async function naive({ candidates, dev }: FinetuneTask): Promise<{ losses: number[]; hits: number[] }[]> {
  const known = candidates ? [...candidates] : Array.from({ length: 24 }, (_, v) => v);
  const rows: { losses: number[]; hits: number[] }[] = [];
  for (let i = 0; i < dev.count; i++) {
    const tokens = dev.tokens.subarray(i * dev.length, (i + 1) * dev.length);
    const log = await logProbabilities(backend, model, tokens);
    const row = { losses: [] as number[], hits: [] as number[] };
    for (let t = 0; t + 1 < dev.length; t++) {
      if (dev.weights[i * dev.length + t] === 0) continue;
      const own = known.map((v) => log[t][v]);
      const target = known.indexOf(tokens[t + 1]);
      row.losses.push(Math.log(own.reduce((sum, x) => sum + Math.exp(x), 0)) - own[target]);
      row.hits.push(own.indexOf(Math.max(...own)) === target ? 1 : 0);
    }
    rows.push(row);
  }
  return rows;
}

/** Mean over predictions, and the ratio estimator's standard error between examples. */
function estimate(rows: readonly (readonly number[])[]): { value: number; stderr: number } {
  const total = rows.reduce((sum, row) => sum + row.length, 0);
  const value = rows.flat().reduce((a, b) => a + b, 0) / total;
  const spread = rows.reduce((sum, row) => sum + (row.reduce((a, b) => a + b, 0) - value * row.length) ** 2, 0);
  return { value, stderr: Math.sqrt((rows.length / (rows.length - 1)) * spread) / total };
}

describe('taskEvaluator', () => {
  it.each([
    ['label words', labels, 2048],
    ['label words, in batches that do not divide the examples', labels, 12],
    ['all predicted tokens', undefined, 2048],
    ['all predicted tokens, in batches that do not divide the examples', undefined, 18],
  ])('equals the definitions: %s', async (_what, candidates, batchTokens) => {
    const task = taskOf(candidates);
    const [accuracy, loss] = await taskEvaluator(task, { batchTokens }).evaluate(model, { backend });
    const rows = await naive(task);
    const [hits, losses] = [estimate(rows.map((row) => row.hits)), estimate(rows.map((row) => row.losses))];
    expect(accuracy).toMatchObject({ evaluator: 'task-accuracy', samples: 7, higherIsBetter: true });
    expect(loss).toMatchObject({ evaluator: 'task-loss', samples: 7, higherIsBetter: false });
    for (const [score, expected] of [
      [accuracy, hits],
      [loss, losses],
    ] as const) {
      expect(score.value).toBeCloseTo(expected.value, 5);
      expect(score.stderr).toBeCloseTo(expected.stderr, 5);
    }
    expect(loss.protocol).toMatchObject({
      task: 'test',
      part: 'dev',
      predicts: candidates ? 'label words' : 'tokens',
      template: '{a} {b}',
      taskSha256: 'h',
      standardError: 'between examples',
    });
  });

  it('reports its progress to the end', async () => {
    const seen: [number, number][] = [];
    await taskEvaluator(taskOf(labels), { batchTokens: 12 }).evaluate(model, {
      backend,
      progress: (done, total) => seen.push([done, total]),
    });
    expect(seen.at(-1)?.[0]).toBe(seen.at(-1)?.[1]);
    expect(seen.map(([done]) => done)).toEqual(seen.map((_, i) => i + 1));
  });

  it('refuses models that cannot read the task, and those that overflow', async () => {
    const long = taskOf(labels, 2, 17);
    await expect(taskEvaluator(long).evaluate(model, { backend })).rejects.toThrow(/CONTEXT_LENGTH: test/);
    const strange = taskOf(Int32Array.of(30, 31), 2, 6);
    await expect(taskEvaluator(strange).evaluate(model, { backend })).rejects.toThrow(/TOKEN_RANGE: test/);
    const weight = tensor(new Float32Array(24 * 8).fill(Number.NaN), [24, 8]);
    await expect(taskEvaluator(taskOf(labels)).evaluate(model.with({ head: new DenseLinear(weight) }), { backend })).rejects.toThrow(
      /SCORE_NAN/,
    );
  });
});
