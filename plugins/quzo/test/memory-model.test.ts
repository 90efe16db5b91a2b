// The memory model: the published ratios of LLaMA-7B, what our own checkpoints weigh, and in which direction it moves.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng, type ExperimentRow, tensorsOf } from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { rtn } from '@lowbit/rtn';
import { createToyModel } from '@lowbit/testkit';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { tableMemory } from '../src/experiments/table-memory.js';
import {
  forwardBytes,
  forwardTrainers,
  gradientTrainers,
  keptBytes,
  linearParameters,
  llama7B,
  llamaShape,
  parameterCount,
  publishedRatios,
  quantizedBytes,
  shapeOf,
} from '../src/memory-model.js';
import { stepMemory } from '../src/run-memory.js';

const GB = 1e9;

describe('LLaMA-7B', () => {
  it('has the elements that it has', () => {
    expect(linearParameters(llama7B)).toBe(6_476_005_376);
    expect(parameterCount(llama7B)).toBe(6_738_415_616);
  });

  it('is 7.0 GB with INT8 codes and 3.8 GB with INT4 codes', () => {
    const bytes = (bits: number, groupSize = -1) => quantizedBytes(llama7B, { bits, groupSize });
    // Codes, the rest in float16, and 1,359,872 scales of two bytes.
    expect(bytes(8)).toBe(6_476_005_376 + 2 * (262_144_000 + 266_240) + 2 * 1_359_872);
    expect(bytes(4)).toBe(3_238_002_688 + 2 * (262_144_000 + 266_240) + 2 * 1_359_872);
    expect(bytes(4, 128) / GB).toBeCloseTo(3.864, 3);
  });

  it('gives 2.94, 5.47 and 7.8 with their baselines', () => {
    const { int8, int4, adam } = publishedRatios(llama7B);
    expect(int8.ratio).toBeCloseTo(2.94, 2);
    expect(int4.ratio).toBeCloseTo(5.47, 2);
    expect(adam.ratio).toBeCloseTo(7.7, 1);
    expect(int8.of).toBe(int4.of);
    expect(int8.of).toContain('float16 gradients');
    expect(adam.of).toContain('float16 weights, gradients and moments');
    expect([int8.over, int4.over].map((over) => over.slice(0, 4))).toEqual(['INT8', 'INT4']);
  });

  it('trained by its 16-byte mixed-precision AdamW is 15 times as large', () => {
    const [quzo] = forwardTrainers(llama7B, -1);
    const adamw = gradientTrainers(llama7B, -1)[3];
    expect((adamw.weights + adamw.training) / (quzo.weights + quzo.training)).toBeCloseTo(15.4, 1);
  });
});

describe('memory model', () => {
  it('is what our own checkpoint of a model counts', async () => {
    const backend = createReferenceBackend();
    const model = createToyModel();
    const { hiddenSize, blockCount } = model.config;
    const shape = llamaShape(model.config, 48);
    const matrices = model.blocks.flatMap((block) => Object.values(block.linears));
    expect(linearParameters(shape)).toBe(matrices.reduce((total, { inFeatures, outFeatures }) => total + inFeatures * outFeatures, 0));
    expect(shape.linears.length * blockCount).toBe(matrices.length);
    const elements = [...tensorsOf(model).values()].reduce((total, t) => total + t.size, 0);
    expect(parameterCount(shape)).toBe(elements);
    const recipe = [rtn({ bits: 4, groupSize: 16, symmetric: true })];
    const { model: quantized } = await quantize({ model, backend, recipe });
    const stored = quantized.blocks
      .flatMap((block) => Object.values(block.linears))
      .reduce((bits, { storageBits }) => bits + storageBits, 0);
    expect(stored / 8 + 2 * (shape.embeddings + shape.norms)).toBe(quantizedBytes(shape, { bits: 4, groupSize: 16 }));
    expect(shape.norms).toBe((2 * blockCount + 1) * hiddenSize);
  });

  const size = fc.integer({ min: 1, max: 8 }).map((n) => 64 * n);
  const shapes = fc
    .record({ hiddenSize: size, innerSize: size, blockCount: fc.integer({ min: 1, max: 9 }), vocabularySize: size, tied: fc.boolean() })
    .map(({ innerSize, hiddenSize, tied, ...rest }) =>
      llamaShape({ ...rest, hiddenSize, headCount: 4, keyValueHeadCount: 2, headDim: hiddenSize / 4, tiedEmbeddings: tied }, innerSize),
    );

  it('has forward passes whose activations do not depend on depth, and gradients whose activations do', () => {
    fc.assert(
      fc.property(shapes, fc.integer({ min: 1, max: 64 }), (shape, tokens) => {
        const batch = { windows: 2, tokens };
        const deeper = { ...shape, blockCount: shape.blockCount + 3 };
        expect(forwardBytes(deeper, batch)).toBe(forwardBytes(shape, batch));
        expect(keptBytes(deeper, batch)).toBeGreaterThan(keptBytes(shape, batch));
        expect(forwardBytes(shape, { ...batch, windows: 4 })).toBe(2 * forwardBytes(shape, batch));
      }),
    );
  });

  it('grows with bits and falls with larger groups; gradients always take more than codes alone', () => {
    fc.assert(
      fc.property(shapes, fc.integer({ min: 1, max: 7 }), fc.constantFrom(8, 16, 32), (shape, bits, groupSize) => {
        const bytes = (change: object) => quantizedBytes(shape, { bits, groupSize, ...change });
        expect(bytes({ bits: bits + 1 })).toBeGreaterThan(bytes({}));
        expect(bytes({ groupSize: 2 * groupSize })).toBeLessThan(bytes({}));
        const [quzo] = forwardTrainers(shape, groupSize);
        for (const { weights, training } of gradientTrainers(shape, groupSize)) expect(weights + training).toBeGreaterThan(quzo.weights);
      }),
    );
  });

  it('needs the width of the MLP', () => {
    expect(() => shapeOf({ ...createToyModel().config, source: {} })).toThrow(expect.objectContaining({ code: 'MODEL_CONFIG' }));
  });
});

describe('a step on this engine', () => {
  const run = { windows: 2, tokens: 64, groupSize: -1, process: 5, carryBytes: 0 } as const;

  it('takes a byte for a code, and for each block more nothing but its codes and their scales', () => {
    const [shape, deeper] = [llama7B, { ...llama7B, blockCount: 33 }];
    const outputs = shape.linears.reduce((sum, [out]) => sum + out, 0);
    const weights = shape.linears.reduce((sum, [out, inFeatures]) => sum + out * inFeatures, 0);
    expect(stepMemory(deeper, run).total - stepMemory(shape, run).total).toBe(weights + 4 * outputs);
    for (const carryBytes of [2, 4] as const) {
      expect(stepMemory(shape, { ...run, carryBytes }).total - stepMemory(shape, run).total).toBe(carryBytes * 32 * weights);
    }
    const { total, ...parts } = stepMemory(shape, run);
    expect(Object.values(parts).reduce((sum, bytes) => sum + bytes, 0)).toBe(total);
  });

  it('holds one block of activations, or some logits', () => {
    const long = stepMemory(llama7B, { ...run, tokens: 512 });
    expect(long.live).toBe(forwardBytes({ ...llama7B, vocabularySize: 0 }, { windows: 2, tokens: 512, activationBytes: 4 }));
    const wide = stepMemory({ ...llama7B, vocabularySize: 2 ** 24 }, run);
    expect(wide.live).toBe(3 * 4 * 2 ** 23);
  });
});

describe('quzo/table-memory', () => {
  const rowsOf = async (): Promise<readonly ExperimentRow[]> => {
    const config = { ...createToyModel().config, source: { intermediate_size: 48 } };
    return tableMemory.compute({
      backend: createReferenceBackend(),
      rng: createRng(0),
      models: [{ name: 'toy', config, tensorBytes: null }],
    });
  };

  it('holds its claims, one line each', async () => {
    const rows = await rowsOf();
    for (const claim of tableMemory.claims ?? []) {
      const verdicts = claim.check(rows);
      expect(verdicts).toHaveLength(1);
      expect(verdicts[0].holds).toBe(true);
    }
  });

  it('denies a claim whose figure is elsewhere', async () => {
    const rows = (await rowsOf()).map((row) => (row['published'] === 2.94 ? { ...row, calculated: 3.1 } : row));
    const [claim] = tableMemory.claims ?? [];
    expect(claim.check(rows)[0].holds).toBe(false);
  });

  it('names what each ratio is of and over, for every model', async () => {
    const ratios = (await rowsOf()).filter((row) => row['unit'] === 'times');
    expect(new Set(ratios.map((row) => row['config']))).toEqual(new Set(['LLaMA-7B', 'toy']));
    for (const row of ratios) expect(`${row['quantity']}${row['baseline']}`).toMatch(/.+INT[48]/);
  });
});
