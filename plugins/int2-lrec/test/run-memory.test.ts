// The memory of our own trainings: what is kept is what the tensors weigh, and the rest moves as it must.
import { createReferenceBackend } from '@lowbit/backend-reference';
import {
  bytesPerElement,
  type DenseLinear,
  defineMethod,
  type Linear,
  type Model,
  readFloats,
  type Tensor,
  tensor,
  tensorsOf,
} from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { QuantizedLinear, quantizeWeight } from '@lowbit/quant';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { packedModel } from '../src/emef/packed-model.js';
import { adapterParameters, type HeldCodes, llama7B, llamaShape, runMemory } from '../src/index.js';

const toy = createToyModel();
const { hiddenSize, blockCount, headCount, keyValueHeadCount, vocabularySize } = toy.config;
const shape = llamaShape({ hiddenSize, innerSize: 48, blockCount, headCount, keyValueHeadCount, vocabularySize });
const run = { adapters: 100, windows: 1, tokens: 8, process: 1000 };

const quantizing = defineMethod({
  name: 'quantizing',
  version: 1,
  options: z.object({ bits: z.int(), groupSize: z.int(), zero: z.enum(['symmetric', 'integer', 'free']) }),
  async quantizeLinear(linear: Linear, { options: { bits, groupSize, zero } }) {
    const { weight } = linear as DenseLinear;
    const grid = { bits, groupSize, symmetric: zero !== 'integer', clip: 'minmax', scaleDtype: 'float32' } as const;
    const affine = quantizeWeight(await readFloats(weight), weight.shape, grid);
    const { scale } = affine;
    return new QuantizedLinear(zero === 'free' ? affine.with({ offset: tensor(new Float32Array(scale.size), scale.shape) }) : affine);
  },
});

function bytesOf(model: Model, isCounted: (name: string) => boolean): number {
  const counted = [...tensorsOf(model)].filter(([name]) => isCounted(name));
  return counted.reduce((total, [, { size, dtype }]: [string, Tensor]) => total + size * bytesPerElement[dtype], 0);
}

const isOfLinears = (name: string): boolean => /self_attn|mlp/.test(name);

describe('runMemory', () => {
  it.each<HeldCodes>([
    { bits: 2, groupSize: 16, zero: 'symmetric' },
    { bits: 3, groupSize: 16, zero: 'integer' },
    { bits: 4, groupSize: -1, zero: 'free' },
    { bits: 7, groupSize: 8, zero: 'integer' },
  ])('counts the weights that a training holds: %o', async (held) => {
    const backend = createReferenceBackend();
    const { model } = await quantize({ model: toy, backend, recipe: [quantizing({ ...held })], calibration: createToyTokens() });
    const packed = (await packedModel(model)).model;
    const found = runMemory(shape, { ...run, weights: held });
    expect(found.weights).toBe(bytesOf(packed, isOfLinears));
    expect(found.embeddings).toBe(bytesOf(packed, (name) => !isOfLinears(name)));
    expect(runMemory(shape, { ...run, weights: 'float32' }).weights).toBe(bytesOf(toy, isOfLinears));
  });

  it('is the sum of its parts, and grows with everything that takes memory', () => {
    const size = fc.integer({ min: 1, max: 8 }).map((n) => 64 * n);
    const shapes = fc
      .record({ hiddenSize: size, innerSize: size, blockCount: fc.integer({ min: 1, max: 9 }), vocabularySize: size })
      .map((sizes) => llamaShape({ ...sizes, headCount: 4 }));
    fc.assert(
      fc.property(shapes, fc.integer({ min: 1, max: 7 }), fc.constantFrom(8, 16, 32), (model, bits, groupSize) => {
        const weights: HeldCodes = { bits, groupSize, zero: 'integer' };
        const bytes = (change: object): number => runMemory(model, { ...run, weights, ...change }).total;
        const { process, weights: held, embeddings, adapters, step, tensors, spare, total } = runMemory(model, { ...run, weights });
        expect(tensors).toBe(held + embeddings + adapters + step);
        expect(total).toBe(process + tensors + spare);
        // Codes that do not divide a byte lie in several planes, which take more while they are added up: a step may then take less with more bits.
        expect(runMemory(model, { ...run, weights: { ...weights, bits: bits + 1 } }).weights).toBeGreaterThan(held);
        expect(bytes({ weights: { ...weights, groupSize: 2 * groupSize } })).toBeLessThan(total);
        expect(runMemory(model, { ...run, weights: { ...weights, zero: 'free' } }).weights).toBeGreaterThan(held);
        for (const more of [{ adapters: 101 }, { windows: 2 }, { tokens: 9 }, { process: 1001 }])
          expect(bytes(more)).toBeGreaterThan(total);
      }),
    );
  });

  it('says what fine-tuning LLaMA-7B takes here: 4.08 GB on INT2 codes, 27.77 GB on float32 weights', () => {
    const adapters = adapterParameters(llama7B, 8, ['q_proj', 'v_proj']);
    const own = { adapters, windows: 1, tokens: 512, process: 0.2e9 };
    const packed = runMemory(llama7B, { ...own, weights: { bits: 2, groupSize: 64, zero: 'integer' } });
    const dense = runMemory(llama7B, { ...own, weights: 'float32' });
    expect(packed.total / 1e9).toBeCloseTo(4.08, 2);
    expect(dense.total / 1e9).toBeCloseTo(27.77, 2);
    // On codes a step makes no more than on dense weights but some rows of a few layers.
    expect(packed.step - dense.step + packed.spare).toBeLessThan(4 * 4096 * 11008);
  });
});
