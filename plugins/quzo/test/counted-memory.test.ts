// Bytes of the tensors that a step holds at its peak, counted by an instrumented allocator: flat in depth but for the weights.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { createReferenceBackend, MemoryMeter } from '@lowbit/backend-reference';
import { createRng, type Model, materialize, tensor, tensorsOf } from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { rtn } from '@lowbit/rtn';
import { createToyModel } from '@lowbit/testkit';
import { modelGradients, type TaskBatch, taskLoss } from '@lowbit/train';
import { describe, expect, it } from 'vitest';
import { derivativesOf, llamaShape, openRun, planOf, quzo, stepMemory } from '../src/index.js';

/** A garbage collection: what JavaScript can no longer reach is no memory that a step needs. */
setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
async function collectGarbage(): Promise<void> {
  await new Promise(setImmediate);
  collect();
}

const groupSize = 16;

interface Size {
  readonly width: number;
  readonly inner: number;
  readonly windows: number;
  readonly tokens: number;
  readonly vocabulary: number;
  readonly blocks: number;
}

const heads = 4;
const small: Size = { width: 48, inner: 80, windows: 2, tokens: 48, vocabulary: 64, blocks: 2 };

function batchOf({ windows, tokens, vocabulary }: Size): TaskBatch {
  const ids = Int32Array.from(createRng(3).integers(windows * tokens, vocabulary));
  const positions = Int32Array.from(ids.keys()).filter((position) => position % tokens !== tokens - 1);
  return {
    tokens: tensor(ids, [windows, tokens]),
    positions,
    targets: positions.map((position) => ids[position + 1]),
    weights: new Float32Array(positions.length).fill(1 / positions.length),
    candidates: undefined,
  };
}

function denseOf({ width, inner, tokens, vocabulary, blocks }: Size): Model {
  const sizes = { hiddenSize: width, innerSize: inner, vocabularySize: vocabulary, blockCount: blocks, contextLength: tokens };
  return createToyModel({ ...sizes, headCount: heads, keyValueHeadCount: heads });
}

/** Peak of two steps that train all codes, one query each. */
async function stepPeak(size: Size): Promise<number> {
  const recipe = [rtn({ bits: 8, groupSize, symmetric: true })];
  const { model } = await quantize({ model: denseOf(size), backend: createReferenceBackend(), recipe });
  const { options } = quzo({ rounding: 'sr' });
  const run = await openRun(model, {
    format: 'lowbit-quzo',
    version: 1,
    runSeed: 1,
    options: { ...options },
    ...planOf(model, () => options),
  });
  const meter = new MemoryMeter(collectGarbage);
  const backend = createReferenceBackend({ meter });
  const batch = batchOf(size);
  for (const step of [1, 2]) run.apply({ step, mu: (await derivativesOf(backend, run, step, batch)).mu ?? [] });
  return meter.peak;
}

/** Peak of the gradients of all weights of the blocks' Linears. */
async function gradientPeak(size: Size): Promise<number> {
  const model = await materialize(denseOf(size));
  const parameters = new Map(
    model.blocks.flatMap(({ path, linears }) =>
      Object.entries(linears).map(([name, linear]) => [`${path}.${name}.weight`, [...tensorsOf(linear).values()][0]] as const),
    ),
  );
  const meter = new MemoryMeter(collectGarbage);
  const own = batchOf(size);
  const { positions } = own;
  await modelGradients({
    backend: createReferenceBackend({ meter }),
    model,
    tokens: own.tokens,
    positions,
    parameters,
    lossOf: taskLoss(own),
  });
  return meter.peak;
}

describe('the peak of a step', () => {
  it('grows with each block by the codes and scales of the block and by nothing else', async () => {
    const deep = { ...small, blocks: 5 };
    const weights = 4 * 48 * 48 + 3 * 48 * 80;
    expect((await stepPeak(deep)) - (await stepPeak(small))).toBe(3 * (weights + (4 * weights) / groupSize + 4 * 2 * 48));
    // With gradients of all weights, by weights and gradients: 8 bytes an element.
    expect((await gradientPeak(deep)) - (await gradientPeak(small))).toBeGreaterThanOrEqual(3 * 8 * weights);
  });

  it.each<Partial<Size>>([{}, { width: 64 }, { inner: 112, vocabulary: 128 }, { windows: 3 }, { tokens: 64 }])(
    'is the sum of what lives while attention weighs its values, to the byte: %o',
    async (change) => {
      const size = { ...small, ...change };
      const { width, inner, windows, tokens, vocabulary, blocks } = size;
      const config = { hiddenSize: width, blockCount: blocks, headCount: heads, keyValueHeadCount: heads, headDim: width / heads };
      const shape = llamaShape({ ...config, vocabularySize: vocabulary, tiedEmbeddings: false }, inner);
      const calculated = stepMemory(shape, { windows, tokens, groupSize, carryBytes: 0, process: 0 });
      const perBlock = 4 * width * width + 3 * width * inner;
      // What the calculation has as well.
      const held = {
        weights: blocks * (perBlock + (4 * perBlock) / groupSize),
        embeddings: 4 * (2 * vocabulary * width + (2 * blocks + 1) * width),
        directions: perBlock,
        streams: 2 * 4 * windows * tokens * width,
      };
      expect(calculated).toMatchObject(held);
      // What it bounds by all that a block computes, and by three float32 copies of a weight of each shape.
      const working = {
        scores: 2 * 4 * windows * heads * tokens * tokens,
        values: 4 * windows * tokens * width,
        mask: 4 * tokens * tokens,
        rotary: 4 * tokens * (width / heads),
        // Of the output of attention and of two matrices of the MLP: the order of a graph makes the weights of a product first.
        dequantized: 4 * (width * width + 2 * width * inner),
        batch: 4 * windows * (tokens + 2 * (tokens - 1)),
        scalars: 4 * 11,
      };
      const sum = (parts: object): number => Object.values(parts).reduce((total: number, bytes: number) => total + bytes, 0);
      const counted = await stepPeak(size);
      expect(counted).toBe(sum(held) + sum(working));
      expect(working.dequantized).toBeLessThan(calculated.perturbed);
      expect(sum(working) - working.dequantized).toBeLessThan(calculated.live);
      expect(counted).toBeLessThan(calculated.total);
    },
  );
});
