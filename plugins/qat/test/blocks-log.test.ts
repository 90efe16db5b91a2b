// What the log says of each block: its judgements, and at the end what came of it, trained or not.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { type Model, type Recipe, type RunEvent, tensor } from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { rtn } from '@lowbit/rtn';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { afterAll, describe, expect, it } from 'vitest';
import { qatBlocks } from '../src/index.js';

const backend = await createOnnxBackend({ threads: 1, spin: false });
afterAll(() => backend.dispose());

const dense = createToyModel({ seed: 7, outliers: 2 });
const calibration = createToyTokens({ seed: 11 });
const format = { bits: 2, groupSize: 16 } as const;
const course = { ...format, learningRate: 2e-3, scaleLearningRate: 5e-3, batchWindows: 2, holdOut: 0.34, epochs: 4, judgeEvery: 2 };

type Log = Readonly<Record<string, unknown>>;

interface Told {
  /** Of one block each. */
  readonly blocks: readonly { readonly rounds: readonly Log[]; readonly ends: readonly Log[] }[];
  readonly warnings: readonly string[];
}

async function run(recipe: Recipe, model: Model = dense): Promise<Told> {
  const logs: { readonly path: string; readonly record: Log }[] = [];
  const onEvent = (event: RunEvent): void => {
    if (event.type === 'log') logs.push(event);
  };
  const { warnings } = await quantize({ model, backend, recipe, calibration, seed: 3, onEvent });
  const blocks = model.blocks.map((block) => {
    const own = logs.filter(({ path }) => path === block.path).map(({ record }) => record);
    return { rounds: own.filter((record) => 'round' in record), ends: own.filter((record) => 'keptRound' in record) };
  });
  return { blocks, warnings: warnings.map(({ code }) => code) };
}

it('has the curve of each block, and what was trained', async () => {
  const { blocks } = await run([qatBlocks({ ...course, trainNorms: true })]);
  for (const { rounds, ends } of blocks) {
    expect(rounds.map(({ round, step, learningRate }) => [round, step, learningRate])).toEqual([1, 2, 3, 4].map((i) => [i, 2 * i, 2e-3]));
    expect(ends).toHaveLength(1);
    const [end] = ends;
    expect(end).toMatchObject({ target: 'dense-stream', windows: 6, heldOutWindows: 2, steps: 8, tokens: 8 * 2 * 12 });
    expect(end['parameters']).toEqual({ latent: expect.any(Number), grid: expect.any(Number), norm: expect.any(Number) });
    for (const count of Object.values(end['parameters'] as object)) expect(count).toBeGreaterThan(0);
    expect(end['tokensPerSecond']).toBeGreaterThan(0);
    expect(rounds.map(({ loss }) => loss)).toEqual(end['losses']);
    // On the scale of the losses at the end.
    const heldOut = rounds.map(({ heldOutLoss }) => heldOutLoss);
    expect(heldOut[(end['keptRound'] as number) - 1]).toBe(end['lossAfter']);
    expect(Math.min(...(heldOut as number[]))).toBe(end['lossAfter']);
  }
});

describe('of a block that is not trained', () => {
  /** With one number in every weight of a kind. */
  const filled = (ending: string, value: number): Model =>
    dense.map((t, name) => (name.endsWith(ending) ? tensor(new Float32Array(t.size).fill(value), t.shape) : t));
  const cases: readonly (readonly [string, Model, number, readonly string[]])[] = [
    ['there is nothing to gain', filled('proj.weight', 0), 0, []],
    // Outputs of about 10^22, whose squares overflow.
    ['errors overflow', filled('post_attention_layernorm.weight', 1e11), Infinity, ['QAT_BLOCK_NOT_FINITE', 'QAT_BLOCK_NOT_FINITE']],
  ];

  it.each(cases)('there is a record: %s', async (_, model, loss, expected) => {
    const losses = { lossBefore: loss, lossAfter: loss, steps: 0, tokens: 0, windows: 6, heldOutWindows: 2, target: 'dense-stream' };
    for (const [recipe, kept] of [
      [[qatBlocks(course)], { lossGiven: undefined, keptRound: 0 }],
      [[rtn(format), qatBlocks(course)], { lossGiven: loss, keptRound: 'given' }],
    ] as const) {
      const { blocks, warnings } = await run(recipe, model);
      for (const { rounds, ends } of blocks) expect([rounds, ends]).toEqual([[], [{ ...losses, ...kept }]]);
      expect(warnings.filter((code) => code.startsWith('QAT'))).toEqual(expected);
    }
  });
});
