// Bytes of the tensors that a training holds for each trained weight, counted by an instrumented allocator.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { createReferenceBackend, MemoryMeter } from '@lowbit/backend-reference';
import { batchesOf, createRng, type FinetuneContext, materialize, tensor, tensorsOf } from '@lowbit/core';
import { createToyModel } from '@lowbit/testkit';
import { expect, it } from 'vitest';
import { type QatInput, type QatOptions, qat } from '../src/index.js';

/** A garbage collection: what JavaScript can no longer reach is no memory that a training needs. */
setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

const TOKENS = 2;
/** One Linear of a block is trained, of 2^14 weights: such are updated one by one. The others are small. */
const TRAINED = 'self_attn.q_proj';
const WEIGHTS = 2 ** 14;
const sizes = { hiddenSize: 128, innerSize: 8, headCount: 8, keyValueHeadCount: 1, vocabularySize: 16, contextLength: TOKENS };

/**
 * The peak, less the dense model. Two rounds of two steps, a window each, from dense weights towards the dense model. What is counted is the
 * second round, that of the last rate.
 */
async function measure(blockCount: number, input: QatInput): Promise<number> {
  const dense = await materialize(createToyModel({ ...sizes, blockCount }));
  let isCounted = false;
  let bytes = 0;
  const meter = new MemoryMeter(async () => {
    if (!isCounted) return;
    await new Promise(setImmediate);
    collect();
  });
  const { method, options } = qat({ bits: 2, groupSize: 128, batchWindows: 1, epochs: 2, holdOut: 0, judgeEvery: 2, ...input });
  const text = tensor(createRng(1).integers(2 * TOKENS, sizes.vocabularySize), [2, TOKENS]);
  const context: FinetuneContext<QatOptions> = {
    backend: createReferenceBackend({ meter }),
    options,
    optionsFor: (path) => (path.endsWith(TRAINED) ? options : undefined),
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
  await method.finetune?.(dense, context);
  return bytes - 4 * [...tensorsOf(dense).values()].reduce((total, { size }) => total + size, 0);
}

/** What another block adds to that, for each of its trained weights. */
async function bytesPerWeight(input: QatInput): Promise<number> {
  return ((await measure(2, input)) - (await measure(1, input))) / WEIGHTS;
}

const cases: readonly (readonly [QatInput, number])[] = [
  // Weight, two moments, the weight that it stands for, its gradient; and the best one.
  [{ keepBest: true }, 24],
  // The first rate's best besides.
  [{ learningRate: [1e-4, 3e-4] }, 28],
];

it.each(cases)('with %o is what is trained, and nothing twice', async (input, expected) => {
  const counted = await bytesPerWeight(input);
  // Of few blocks the peak is at the chain rule, when the weights that are stood for have been given back.
  expect(counted).toBeGreaterThan(expected - 4);
  // Scale and zero point of 128 weights take as much as two weights, and the input of the block is kept.
  expect(counted).toBeLessThan(expected * (1 + 2 / 128) + 0.5);
});
