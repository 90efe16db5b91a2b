// What comes of a training: what is kept of states that overflow, what the log counts, and what is warned of.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import {
  type Block,
  batchesOf,
  type Model,
  type Recipe,
  readFloats,
  type Tensor,
  type TensorMap,
  type TokenBatches,
  tensor,
  tensorsOf,
} from '@lowbit/core';
import { rtn } from '@lowbit/rtn';
import type { RateSearchResult } from '@lowbit/train';
import { afterAll, describe, expect, it } from 'vitest';
import { type QatInput, qat, qatBlocks } from '../src/index.js';
import { keptGrids } from '../src/kept-grids.js';
import { hiddenTeacher } from '../src/material.js';
import { type Judged, keepsGiven, outcomeRecord, warnAbout } from '../src/outcome.js';
import { prepareModel } from '../src/prepare.js';
import { dense, quick, run } from './setting.js';

const backend = await createOnnxBackend({ threads: 1, spin: false });
afterAll(() => backend.dispose());

const format = { bits: 2, groupSize: 16 } as const;
/** Each of 12 tokens. */
function windows(count: number): TokenBatches {
  const made = Array.from({ length: count }, (_, w) =>
    tensor(
      Int32Array.from({ length: 12 }, (_, i) => (7 * w + 5 * i) % 64),
      [1, 12],
    ),
  );
  return { ...batchesOf(made), hash: `${count} windows`, description: `${count} windows` };
}

/** One step, judged on what it is trained on. */
const single = { ...quick, epochs: 1, holdOut: 0, judgeEvery: 1 };

function found(change: Partial<RateSearchResult['best']['result']> = {}, diverged: readonly number[] = []): RateSearchResult {
  const result = { parameters: new Map(), epoch: 2, losses: [3, 2], validation: undefined, diverged: false, ...change };
  return { best: { rate: 0.1, loss: 0, result }, diverged };
}

describe('what is kept', () => {
  it.each([
    [undefined, 1, false],
    [2, 1, false],
    [1, 1, true],
    [1, 2, true],
    [1, Number.NaN, true],
    [Number.POSITIVE_INFINITY, 1, false],
    [Number.NaN, 1, false],
    [Number.NaN, Number.NaN, true],
  ])('given %d, trained %d: what was given is kept: %s', (given, after, isKept) => {
    const judged: Judged = { given, start: 9, after };
    expect(keepsGiven(judged)).toBe(isKept);
    expect(outcomeRecord(found(), judged, { rates: { learningRate: 0.1 }, stepsPerRound: 5 })).toEqual({
      ...{ learningRate: 0.1, divergedRates: [], steps: 10, losses: [3, 2], lossGiven: given, lossBefore: 9 },
      ...{ lossAfter: isKept ? given : after, keptRound: isKept ? 'given' : 2 },
    });
  });
});

describe('warnings', () => {
  const warnings = (judged: Judged, result: RateSearchResult, keepBest = true): string[] => {
    const told: string[] = [];
    warnAbout(
      result,
      judged,
      { rates: { learningRate: 0.1 }, options: { keepBest }, warn: (code, message) => told.push(`${code} ${message}`) },
      'block: ',
    );
    return told.map((text) => text.replace(/[;.] [Ll]ower.*|; set .*|; leave.*/, ''));
  };

  it.each<[string, Judged, RateSearchResult, boolean, string[]]>([
    ['a gain', { given: 2, start: 2, after: 1 }, found(), true, []],
    [
      'what was given',
      { given: 1, start: 3, after: 2 },
      found(),
      true,
      ['QAT_NO_GAIN block: no state was judged better than what was given (1.000 to 2.000), which is kept'],
    ],
    [
      'the start',
      { given: undefined, start: 2, after: 2 },
      found({ epoch: 0 }),
      true,
      ['QAT_NO_GAIN block: no state was judged better than the start, which is kept'],
    ],
    ['a loss from NaN', { given: Number.NaN, start: 2, after: 1 }, found(), true, []],
    [
      'divergence',
      { given: 1, start: 1, after: 1 },
      found({ epoch: 0, diverged: true }, [0.1]),
      true,
      [
        'QAT_DIVERGED block: a loss or a parameter was not finite after 2 rounds; what was given is kept',
        'QAT_NO_GAIN block: no state was judged better than what was given (1.000 to 1.000), which is kept',
      ],
    ],
    [
      'another rate that diverged',
      { given: 2, start: 2, after: 1 },
      found({}, [0.5]),
      true,
      ['QAT_DIVERGED block: learning rates 0.5 left the finite numbers'],
    ],
    [
      'the last state, worse',
      { given: undefined, start: 1, after: 2 },
      found(),
      false,
      ['QAT_WORSE block: training raised the loss that is judged on from 1.000 to 2.000'],
    ],
    ['the last state, as good', { given: undefined, start: 1, after: 1 }, found(), false, []],
  ])('%s', (_, judged, result, keepBest, expected) => {
    expect(warnings(judged, result, keepBest)).toEqual(expected);
  });
});

it('counts the steps of a training that ended early, and says which grids were asked for in vain', async () => {
  const wild = { learningRate: 1, scaleLearningRate: 1, warmup: 0, schedule: 'constant', patience: 1, epochs: 8 } as const;
  const { log, rounds, warnings } = await run(backend, [rtn(format), qat({ ...single, ...wild, groupSize: 8 })], {
    calibration: windows(2),
  });
  expect(rounds.length).toBeLessThan(8);
  expect(log).toMatchObject({ steps: rounds.length, tokens: rounds.length * 24 });
  expect(warnings).toEqual(['QAT_GRID_KEPT', 'QAT_NO_GAIN']);
});

describe('of one window', () => {
  const recipes: readonly (readonly [string, (holdOut: number) => Recipe])[] = [
    ['the model', (holdOut) => [rtn(format), qat({ ...single, holdOut })]],
    ['each block', (holdOut) => [rtn(format), qatBlocks({ epochs: 1, learningRate: 3e-3, scaleLearningRate: 1e-2, holdOut })]],
  ];

  it.each(recipes)('a step trains %s, and there is a word where windows were to be held out', async (_, recipe) => {
    const { log, warnings } = await run(backend, recipe(0.25), { calibration: windows(1) });
    expect(log).toMatchObject({ steps: 1, heldOutWindows: 0, keptRound: 1 });
    expect(log.lossAfter).toBeLessThan(log.lossBefore as number);
    expect(new Set(warnings)).toEqual(new Set(['QAT_NOT_HELD_OUT']));
  });

  it('there is none where nothing was to be held out', async () => {
    const { warnings } = await run(backend, recipes[0][1](0), { calibration: windows(1) });
    expect(warnings).toEqual([]);
  });
});

describe('hidden states are compared', () => {
  const block = async (index: number): Promise<Block> => dense.blocks[index];
  const scales = async ({ norm }: Model): Promise<number[]> => [...(await readFloats(norm.weight as Tensor))];
  const doubled = async <T extends { map(map: TensorMap): T }>(tree: T): Promise<T> => {
    const values = new Map<Tensor, Tensor>();
    for (const t of tensorsOf(tree).values())
      values.set(
        t,
        tensor(
          (await readFloats(t)).map((x) => 2 * x),
          t.shape,
        ),
      );
    return tree.map((t) => values.get(t) ?? t);
  };

  it('with the last norm as it was before a step trained it', async () => {
    const trained = dense.with({ norm: await doubled(dense.norm) });
    expect(await scales(trained)).not.toEqual(await scales(dense));
    expect(await scales(await hiddenTeacher(trained, dense, block))).toEqual(await scales(dense));
  });

  it('with that of the model where its basis is another', async () => {
    const moved = dense.with({ norm: await doubled(dense.norm), embedding: await doubled(dense.embedding) });
    expect(await scales(await hiddenTeacher(moved, dense, block))).toEqual(await scales(moved));
  });
});

describe('grids that stay', () => {
  const defaults = qat().options;

  it('are those of quantized Linears that differ from what was written', async () => {
    const { model } = await run(backend, [rtn({ ...format, targets: ['**.mlp.*'] })]);
    const told = (options: QatInput): string | undefined => keptGrids(model.blocks, () => qat(options).options, defaults);
    expect(told({ bits: 3, groupSize: 8 })).toBe(
      'bits 3, groupSize 8: for dense Linears alone; model.layers.0.mlp.gate_proj and 5 more keep the grid that they have. Quantize them so before this step',
    );
    expect(told({ bits: 2, groupSize: 16 })).toBeUndefined();
    expect(told({ zero: 'free', scaleDtype: 'float32' })).toMatch(/^zero free, scaleDtype float32: /);
    expect(told({})).toBeUndefined();
    // Ranges that are recomputed at every step are as they are asked for.
    expect(told({ clip: 'mse' })).toMatch(/^clip mse: /);
    expect(told({ clip: 'mse', quantizer: 'minmax' })).toBeUndefined();
    expect(keptGrids(model.blocks, (path) => (path.includes('.mlp.') ? undefined : qat({ bits: 3 }).options), defaults)).toBeUndefined();
    expect(keptGrids(dense.blocks, () => qat({ bits: 3 }).options, defaults)).toBeUndefined();
  });
});

it('hears a signal while weights are prepared', async () => {
  const { options } = qat();
  const request = { backend, optionsFor: () => options, signal: AbortSignal.abort() };
  await expect(prepareModel(dense, request, async (index) => dense.blocks[index])).rejects.toMatchObject({ code: 'ABORTED' });
});
