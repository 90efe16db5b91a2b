// EMEF on a task: it learns the labels, in batches of any parts, and leaves the codes alone.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createRng, type FinetuneTask, type Model, materialize, type RunEvent, type TaskExamples } from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { LowRankLinear } from '@lowbit/quant';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { judgeTask, taskTraining } from '@lowbit/train';
import { afterAll, describe, expect, it } from 'vitest';
import { type EmefInput, emef } from '../src/index.js';
import { rounding } from './rounding.js';

const backend = await createOnnxBackend({ threads: 1, spin: false });
afterAll(() => backend.dispose());
const model = createToyModel({ seed: 12, outliers: 2 });
const labels = Int32Array.of(40, 41);

/** Which of two tokens an example has more of. */
function examples(seed: number, count: number, length = 8): TaskExamples {
  const tokens = new Int32Array(count * length);
  const weights = new Float32Array(count * length);
  for (let i = 0; i < count; i++) {
    const draws = createRng(seed)
      .at(i)
      .integers(length - 2, 2);
    const read = length - 2 - (i % 2);
    for (let t = 0; t < read; t++) tokens[i * length + t] = 10 + draws[t];
    const ones = draws.subarray(0, read).reduce((a, b) => a + b, 0);
    tokens[i * length + read] = 60;
    tokens[i * length + read + 1] = labels[2 * ones > read ? 1 : 0];
    weights[i * length + read] = 1;
  }
  return { count, length, tokens, weights };
}

const task: FinetuneTask = {
  description: 'more',
  hash: 'more',
  candidates: labels,
  train: examples(1, 64),
  dev: examples(2, 32),
  protocol: {},
};
const quick: EmefInput = { rank: 4, epochs: 6, batchWindows: 16, learningRate: 0.02 };

async function tuned(
  options: EmefInput,
  given: Partial<Parameters<typeof quantize>[0]> = { task },
): Promise<{ model: Model; log: Record<string, unknown> }> {
  const records: Record<string, unknown>[] = [];
  const onEvent = (event: RunEvent): void => {
    if (event.type === 'log') records.push({ ...event.record });
  };
  const recipe = [rounding({ bits: 4, groupSize: 16 }), emef(options)];
  const { model: made } = await quantize({ model, backend, recipe, seed: 3, onEvent, ...given });
  return { model: await materialize(made), log: records.find(({ lossAfter }) => lossAfter !== undefined) ?? {} };
}

const judge = (made: Model) => judgeTask(backend, made, taskTraining(task, 16).dev);

describe('emef on a task', () => {
  it('learns it, without calibration data, and keeps what the dev part judged best', async () => {
    const { model: start } = await tuned({ ...quick, learningRate: 1e-12 });
    const { model: made, log } = await tuned(quick);
    const [before, after] = [await judge(start), await judge(made)];
    expect(after.loss).toBeLessThan(0.6 * before.loss);
    expect(after.accuracy).toBeGreaterThan(0.8);
    expect(log).toMatchObject({ task: 'more', examples: 64, devExamples: 32, skippedSteps: 0 });
    expect(log['lossAfter']).toBeCloseTo(after.loss, 5);
    expect(log['lossBefore']).toBeCloseTo(before.loss, 2);
    const linear = made.blocks[0].linears['mlp.down_proj'] as LowRankLinear;
    expect(linear).toBeInstanceOf(LowRankLinear);
    expect(linear.base.kind).toBe('affine');
  });

  it('computes the same in parts of a batch', async () => {
    const [whole, parts] = [await tuned({ ...quick, epochs: 1 }), await tuned({ ...quick, epochs: 1, windowsAtOnce: 5 })];
    const [a, b] = [whole.log['losses'] as number[], parts.log['losses'] as number[]];
    expect(b.length).toBe(a.length);
    for (const [i, loss] of a.entries()) expect(b[i]).toBeCloseTo(loss, 4);
  });

  it('is another training than the one on windows', async () => {
    const calibration = createToyTokens({ seed: 13, batchCount: 4, batchSize: 2, tokens: 10 });
    const { log } = await tuned({ ...quick, epochs: 1 }, { calibration });
    expect(log).toMatchObject({ windows: 8 });
    expect(log['examples']).toBeUndefined();
  });
});
