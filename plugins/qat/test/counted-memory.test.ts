// Bytes of the tensors that a training holds for each trained weight, counted by an instrumented allocator.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { createReferenceBackend, MemoryMeter } from '@lowbit/backend-reference';
import { batchesOf, createRng, type FinetuneContext, type Model, materialize, tensor } from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { rtn } from '@lowbit/rtn';
import { createToyModel } from '@lowbit/testkit';
import { expect, it } from 'vitest';
import { type QatInput, type QatOptions, qat } from '../src/index.js';

/** A garbage collection: what JavaScript can no longer reach is no memory that a training needs. */
setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

const TOKENS = 4;
/** Linears of 2^14 weights, which are updated one by one. */
const sizes = { hiddenSize: 128, innerSize: 128, headCount: 4, keyValueHeadCount: 4, vocabularySize: 32, contextLength: TOKENS };
const format = { bits: 2, groupSize: 64 } as const;

const weightsIn = (model: Model): number =>
  model.blocks
    .flatMap(({ linears }) => Object.values(linears))
    .reduce((total, { inFeatures, outFeatures }) => total + inFeatures * outFeatures, 0);

interface Peak {
  readonly bytes: number;
  readonly weights: number;
}

/** Two rounds of two steps, a window each, from rounding to nearest, towards the dense model. The second round is counted, that of the last rate. */
async function measure(blockCount: number, input: QatInput): Promise<Peak> {
  const dense = await materialize(createToyModel({ ...sizes, blockCount }));
  const { model } = await quantize({ model: dense, backend: createReferenceBackend(), recipe: [rtn(format)] });
  let isCounted = false;
  let bytes = 0;
  const meter = new MemoryMeter(async () => {
    if (!isCounted) return;
    await new Promise(setImmediate);
    collect();
  });
  const { method, options } = qat({ batchWindows: 1, epochs: 2, holdOut: 0, judgeEvery: 2, ...input });
  const text = tensor(createRng(1).integers(2 * TOKENS, sizes.vocabularySize), [2, TOKENS]);
  const context: FinetuneContext<QatOptions> = {
    backend: createReferenceBackend({ meter }),
    options,
    optionsFor: () => options,
    rng: createRng(2),
    reference: dense,
    referenceBlock: async (index) => dense.blocks[index],
    calibration: { ...batchesOf([text]), hash: '', description: 'random tokens' },
    signal: undefined,
    saved: undefined,
    save: async () => undefined,
    progress(done, total) {
      isCounted = done === total - 2 || done === total - 1;
      if (done === total - 2) meter.reset();
      bytes = meter.peak;
    },
    log: () => undefined,
    warn: () => undefined,
  };
  await method.finetune?.(model, context);
  return { bytes, weights: weightsIn(dense) };
}

/** What another block adds to the peak, for each of its weights. */
async function bytesPerWeight(input: QatInput): Promise<number> {
  const [shallow, deep] = [await measure(1, input), await measure(2, input)];
  return (deep.bytes - shallow.bytes) / (deep.weights - shallow.weights);
}

/** The dense model, the codes given, and what is trained besides weights: scale and zero point of 64 weights, as often as a weight. */
const MODELS = 4 + 1;
const GRIDS = 2 / 64;

const cases: readonly (readonly [QatInput, number])[] = [
  // Weight, two moments, the weight that it stands for, its gradient; and the best one.
  [{ keepBest: true }, 24],
  // The first rate's best besides.
  [{ learningRate: [1e-4, 3e-4] }, 28],
];

it.each(cases)('with %o is what is trained, and nothing twice', async (input, expected) => {
  const counted = (await bytesPerWeight(input)) - MODELS;
  expect(counted).toBeGreaterThan(expected - 4);
  expect(counted).toBeLessThan(expected * (1 + GRIDS) + 0.5);
});
