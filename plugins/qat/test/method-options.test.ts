// Options of the method: objectives, quantizers, a task, and what is refused.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import type { FinetuneTask, Recipe } from '@lowbit/core';
import { rtn } from '@lowbit/rtn';
import { afterAll, describe, expect, it } from 'vitest';
import { type QatInput, qat } from '../src/index.js';
import { quick, run } from './setting.js';

const backend = await createOnnxBackend({ threads: 1, spin: false });
afterAll(() => backend.dispose());

const format = { bits: 2, groupSize: 16 } as const;

it.each(['ce', 'reverse-kl', 'cakld', 'jsd', 'hidden'] as const)('minimises %s', async (objective) => {
  const { log } = await run(backend, [rtn(format), qat({ ...quick, objective, ...(objective !== 'ce' && { lambdaCe: 0.5 }) })]);
  expect(log).toMatchObject({ objective });
  expect(log.lossAfter).toBeLessThan(log.lossGiven as number);
});

it.each([
  { quantizer: 'minmax' },
  { quantizer: 'lwc' },
  { quantizer: 'seq' },
  { optimizer: 'sgd', gradientScale: true, learningRate: 0.3, scaleLearningRate: 1 },
] as const)('trains by %o', async (options) => {
  const { log } = await run(backend, [qat({ ...quick, ...format, ...options })]);
  expect(log.lossAfter).toBeLessThan(log.lossBefore as number);
});

it('is tuned for a task, without calibration text', async () => {
  const tokens = Int32Array.from({ length: 8 * 6 }, (_, i) => (i % 6 === 5 ? 2 + (Math.floor(i / 6) % 2) : 10 + (Math.floor(i / 6) % 2)));
  const weights = Float32Array.from(tokens, (_, i) => (i % 6 === 4 ? 1 : 0));
  const examples = { count: 8, length: 6, tokens, weights };
  const task: FinetuneTask = {
    description: 'parity',
    hash: 'parity',
    candidates: Int32Array.of(2, 3),
    train: examples,
    dev: examples,
    protocol: {},
  };
  const { log } = await run(backend, [rtn(format), qat({ ...quick, objective: 'ce' })], { task, calibration: undefined });
  expect(log).toMatchObject({ task: 'parity', examples: 8 });
  expect(log.lossAfter).toBeLessThan(log.lossGiven as number);
});

describe('refuses', () => {
  const cases: readonly (readonly [string, Recipe, string | RegExp])[] = [
    ['scales of dense Linears', [qat({ train: 'scales' })], 'LINEAR_NOT_AFFINE'],
    ['grids of its own for quantized Linears', [rtn(format), qat({ quantizer: 'seq' })], 'LINEAR_NOT_DENSE'],
    ['groups that do not fit', [qat({ groupSize: 20 })], 'GROUP_SIZE'],
    ['one end of a range', [rtn({ ...format, symmetric: true }), qat({ quantizer: 'lwc' })], 'QAT_QUANTIZER'],
  ];
  it.each(cases)('%s', async (_, recipe, code) => {
    await expect(run(backend, recipe)).rejects.toMatchObject({ code });
  });

  it('to train on nothing', async () => {
    await expect(run(backend, [qat({ ...quick, ...format })], { calibration: undefined })).rejects.toMatchObject({
      code: 'CALIBRATION_EMPTY',
    });
  });

  it.each([
    [{ train: 'scales', quantizer: 'minmax' }, /quantizer: .*use 'learned'/],
    [{ quantizer: 'lwc', zero: 'symmetric' }, /zero: .*'integer' or 'free'/],
    [{ quantizer: 'seq', zero: 'free' }, /zero: .*around zero/],
    [{ preset: 'paretoq', bits: 4, zero: 'integer' }, /zero: .*around zero/],
    [{ gradientScale: true }, /gradientScale: .*sgd/],
    [{ patience: 2, keepBest: false }, /patience: .*keepBest/],
    [{ objective: 'ce', lambdaCe: 1 }, /lambdaCe: .*beside/],
    [{ train: 'scales', latent: 'dequantized' }, /latent: .*leave it out/],
    [{ preset: 'efficientqat', clip: 'mse' }, /clip: .*leave it out/],
    [{ train: 'scales', weightDecay: 0.1 }, /weightDecay: .*leave it out/],
    [{ quantizer: 'lwc', clip: 'mse' }, /clip: 'lwc' has ranges of its own/],
    [{ preset: 'paretoq', bits: 2, clip: 'mse' }, /clip: 'seq' has ranges of its own/],
    [{ learningRate: [1e-5, 1e-2] }, /learningRate: .*scales along to a rate of 1 a step.*largest rate first/],
    [{ overrides: { '**.down_proj': { bits: 2, objective: 'ce' } } }, /overrides '\*\*\.down_proj': objective holds for all Linears/],
    [{ overrides: { '**.down_proj': { learningRate: 1e-6 } } }, /learningRate holds .*may change bits, groupSize, .*, latent$/],
    [{ overrides: { '**.down_proj': { preset: 'paretoq' } } }, /preset holds/],
    [{ overrides: { '**.o_proj': { train: 'scales', latent: 'reference' } } }, /overrides '\*\*\.o_proj': latent: .*leave it out/],
    [{ overrides: ['**'] }, /overrides must be an object, got a list/],
    [{ overrides: { '**': 4 } }, /overrides '\*\*' must be an object, got a number/],
    [{ bits: 9 }, /bits/],
  ] as const)('options that contradict each other: %o', (options, message) => {
    expect(() => qat(options as QatInput)).toThrow(
      expect.objectContaining({ code: 'OPTIONS_INVALID', message: expect.stringMatching(message) }),
    );
  });
});

it('takes rates that keep scales in bounds, and whatever belongs to one Linear', () => {
  for (const options of [
    { learningRate: [1e-2, 1e-5] },
    { learningRate: [1e-5, 1e-3] },
    { learningRate: [1e-5, 1e-2], optimizer: 'sgd' },
    { learningRate: [1e-5, 1e-2], quantizer: 'minmax' },
    { quantizer: 'seq', bits: 3, clip: 'mse' },
    { overrides: { '**.down_proj': { bits: 2, groupSize: 8, zero: 'free', clip: 'mse', scaleDtype: 'float32' } } },
    { overrides: { '**.down_proj': { quantizer: 'lwc', train: 'all', latent: 'dequantized' } } },
    { latent: 'reference', clip: 'mse', weightDecay: 0.1, overrides: { '**.down_proj': { train: 'scales' } } },
  ] as const) {
    expect(qat(options as unknown as QatInput).options).toMatchObject({ train: 'all' });
  }
});

it.each(['paretoq', 'llm-qat'] as const)('%s has a scale for each output channel, unless told otherwise', (preset) => {
  expect(qat({ preset }).options).toMatchObject({ groupSize: -1, zero: 'symmetric' });
  expect(qat({ preset, groupSize: 64 }).options).toMatchObject({ groupSize: 64 });
  expect(qat().options).toMatchObject({ groupSize: 32, zero: 'integer' });
});
