// Bytes of the tensors that a training holds for each trained weight, counted by an instrumented allocator.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { createReferenceBackend, MemoryMeter } from '@lowbit/backend-reference';
import { batchesOf, createRng, type FinetuneContext, type Model, materialize, readFloats, tensor, tensorsOf } from '@lowbit/core';
import { QuantizedLinear, quantizeWeight } from '@lowbit/quant';
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

type Start = 'dense' | 'codes';

/** The model whose Linears that are to be trained have codes. */
async function quantized(model: Model): Promise<Model> {
  const grid = { bits: 2, groupSize: 128, symmetric: false, clip: 'minmax', scaleDtype: 'float32' } as const;
  const blocks = model.blocks.map(async (block) => {
    const weight = block.linears[TRAINED].effectiveWeight();
    return block.with({ linears: { [TRAINED]: new QuantizedLinear(quantizeWeight(await readFloats(weight), weight.shape, grid)) } });
  });
  return model.with({ blocks: await Promise.all(blocks) });
}

/**
 * The peak, less the dense model and the one that is given. Two rounds of two steps, a window each, towards the dense model. What is counted is
 * the second round, that of the last rate.
 */
async function measure(blockCount: number, input: QatInput, start: Start): Promise<number> {
  const dense = await materialize(createToyModel({ ...sizes, blockCount }));
  const given = start === 'dense' ? dense : await quantized(dense);
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
  await method.finetune?.(given, context);
  const held = new Set([dense, given].flatMap((model) => [...tensorsOf(model).values()]));
  return bytes - [...held].reduce((total, { size, dtype }) => total + (dtype === 'uint8' ? 1 : 4) * size, 0);
}

/** What another block adds to that, for each of its trained weights. */
async function bytesPerWeight(input: QatInput, start: Start = 'dense'): Promise<number> {
  return ((await measure(2, input, start)) - (await measure(1, input, start))) / WEIGHTS;
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

it('with scales alone, weights that codes stand for exist one block at a time', async () => {
  // Of 128 weights: scale, two moments, what is stored, its gradient and that of the factor, and the best one; the input of the block.
  expect(await bytesPerWeight({ train: 'scales' }, 'codes')).toBeLessThan(0.5);
});
