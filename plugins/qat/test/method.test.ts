// The method: its contract, what training gains from every start, what it keeps, and how it resumes.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { memoryStore, type Recipe, type RunEvent } from '@lowbit/core';
import { decoupleq } from '@lowbit/decoupleq';
import { gptq } from '@lowbit/gptq';
import { quantize } from '@lowbit/pipeline';
import { activations } from '@lowbit/quad';
import { linearKinds } from '@lowbit/quant';
import { rtn } from '@lowbit/rtn';
import { describeMethod } from '@lowbit/testkit';
import { afterAll, describe, expect, it } from 'vitest';
import { type QatInput, qat } from '../src/index.js';
import { elementsOf, linearsOf, quick, run } from './setting.js';

const backend = await createOnnxBackend({ threads: 1, spin: false });
afterAll(() => backend.dispose());

describeMethod(qat, {
  quantize,
  createBackend: () => createOnnxBackend({ threads: 1, spin: false }),
  kinds: linearKinds,
  options: { ...quick, bits: 3, groupSize: 16, epochs: 2, keepBest: false },
  override: { bits: 2 },
});

const format = { bits: 2, groupSize: 16 } as const;

describe('lowers the divergence from the dense model', () => {
  // GPTQ has fitted its codes to this very text, and so few weights: what is left to gain is in the scales.
  const starts: Readonly<Record<string, readonly [start: Recipe, options: QatInput]>> = {
    'dense weights': [[], format],
    rtn: [[rtn(format)], {}],
    gptq: [[gptq(format)], { train: 'scales', scaleLearningRate: 1e-3 }],
    'rounded activations': [[activations({ bits: 8 }), rtn({ ...format, symmetric: true })], {}],
  };

  it.each(Object.keys(starts))('from %s', async (name) => {
    const [start, options] = starts[name];
    const { log, rounds, warnings } = await run(backend, [...start, qat({ ...quick, ...options })]);
    expect(log.lossAfter).toBeLessThan(log.lossBefore as number);
    if (start.length > 0) expect(log.lossAfter).toBeLessThan(log.lossGiven as number);
    expect(rounds.map(({ round, step }) => [round, step])).toEqual([
      [1, 4],
      [2, 8],
      [3, 12],
    ]);
    expect(warnings).toEqual([]);
  });
});

it('ends nearer to the dense model with every bit more', async () => {
  const losses: number[] = [];
  for (const bits of [1, 2, 3, 4, 6]) losses.push((await run(backend, [qat({ ...quick, bits, groupSize: 16 })])).log.lossAfter as number);
  expect(losses).toEqual([...losses].sort((a, b) => b - a));
});

it('takes weights and activations together: wrappers stay', async () => {
  const { model } = await run(backend, [activations({ bits: 8 }), rtn(format), qat({ ...quick, epochs: 1 })]);
  expect([...linearsOf(model).values()].every(({ kind }) => kind === 'activation-quantized')).toBe(true);
});

it('trains scales, offsets and norms alone, codes as they are, from decoupleq', async () => {
  const start = [decoupleq({ ...format, blockEpochs: 0 })];
  const { model: given } = await run(backend, start);
  const { model, log } = await run(backend, [...start, qat({ ...quick, train: 'scales', scaleLearningRate: 1e-3, trainNorms: true })]);
  expect(log.lossAfter).toBeLessThan(log.lossGiven as number);
  const [before, after] = [await elementsOf(given), await elementsOf(model)];
  const changed = Object.keys(before).filter((name) => before[name].some((x, i) => x !== after[name][i]));
  expect(new Set(changed.map((name) => name.split('.').at(-1)))).toEqual(new Set(['scale', 'offset', 'weight']));
  expect(changed.filter((name) => name.endsWith('.weight')).every((name) => name.includes('norm'))).toBe(true);
  const grid = Object.keys(before).filter((name) => /\.(scale|offset)$/.test(name));
  // The rates that were read.
  expect(log).not.toHaveProperty('learningRate');
  expect(log).toMatchObject({ scaleLearningRate: 1e-3 });
  expect(log.parameters).toEqual({ latent: 0, grid: grid.reduce((total, name) => total + before[name].length, 0), norm: 160 });
});

it('hands back what it was given, bit for bit, where training made it worse', async () => {
  const start = [rtn(format)];
  const { model: given } = await run(backend, start);
  const wild: QatInput = { ...quick, learningRate: 1, scaleLearningRate: 1, warmup: 0, schedule: 'constant', clipNorm: 0 };
  const { model, log, warnings } = await run(backend, [...start, qat(wild)]);
  expect(log.keptRound).toBe('given');
  expect(log.lossAfter).toBe(log.lossGiven);
  expect(warnings).toContain('QAT_NO_GAIN');
  expect(await elementsOf(model)).toEqual(await elementsOf(given));
  const last = await run(backend, [...start, qat({ ...wild, keepBest: false })]);
  expect(last.log.keptRound).not.toBe('given');
  expect(last.warnings).toContain('QAT_WORSE');
});

it('tries several rates, and keeps the best', async () => {
  const rates = [1e-5, 3e-3];
  const course = { ...quick, epochs: 2, learningRate: rates, scaleLearningRate: 3e-5 };
  const { log, rounds } = await run(backend, [rtn(format), qat(course)]);
  const best = Math.min(...rounds.map(({ heldOutLoss }) => heldOutLoss as number));
  expect(log.lossAfter).toBe(best);
  expect(log.learningRate).toBe(rounds.find(({ heldOutLoss }) => heldOutLoss === best)?.learningRate);
  expect(new Set(rounds.map(({ learningRate }) => learningRate))).toEqual(new Set(rates));
});

it('goes on where it was interrupted, to the same bits', async () => {
  const recipe = [rtn(format), qat({ ...quick, learningRate: [1e-3, 3e-3], epochs: 2, judgeEvery: 2 })];
  const whole = await run(backend, recipe);
  const store = memoryStore();
  for (const stop of [2, 3]) {
    const controller = new AbortController();
    let rounds = 0;
    const onEvent = (event: RunEvent): void => {
      if (event.type === 'log' && event.record.round !== undefined && ++rounds === stop) controller.abort();
    };
    const cut = run(backend, recipe, { store, kinds: linearKinds, signal: controller.signal, onEvent });
    await expect(cut).rejects.toMatchObject({ code: 'ABORTED' });
  }
  const { model } = await run(backend, recipe, { store, kinds: linearKinds });
  expect(await elementsOf(model)).toEqual(await elementsOf(whole.model));
});
