// The memory model: the published figures of LLaMA-7B, what our own checkpoints weigh, and in which direction it moves.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { quantize } from '@lowbit/pipeline';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkpointBits } from '../src/adapters/checkpoint-bits.js';
import {
  activationBytes,
  adapterParameters,
  bitsPerWeight,
  GPU_CONTEXT_BYTES,
  linearParameters,
  llama7B,
  llamaShape,
  logitBytes,
  parameterCount,
  publishedRatios,
  quantizedBytes,
  trainingMemory,
} from '../src/index.js';
import { rounding } from './rounding.js';

const GB = 1e9;
const six = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj'];
const seven = [...six, 'down_proj'];
const int = (bits: number, groupSize = 128) => quantizedBytes(llama7B, { bits, groupSize });

describe('LLaMA-7B', () => {
  it('has the elements that it has', () => {
    expect(linearParameters(llama7B)).toBe(6_476_005_376);
    expect(llama7B.embeddings).toBe(262_144_000);
    expect(llama7B.norms).toBe(266_240);
    expect(parameterCount(llama7B)).toBe(6_738_415_616);
  });

  it.each([
    [8, 7.157, 8.19],
    [4, 3.894, 4.16],
    [3, 3.078, 3.15],
    [2, 2.262, 2.15],
  ])('in INT%d with groups of 128 weighs %d GB, %d bits a weight', (bits, gigabytes, perWeight) => {
    expect(int(bits) / GB).toBeCloseTo(gigabytes, 3);
    expect(bitsPerWeight(llama7B, { bits, groupSize: 128 })).toBeCloseTo(perWeight, 1);
  });

  it('has adapters of 4.19, 64.49 and 79.95 million elements', () => {
    expect(adapterParameters(llama7B, 8, ['q_proj', 'v_proj']) / 1e6).toBeCloseTo(4.19, 2);
    expect(adapterParameters(llama7B, 32, six) / 1e6).toBeCloseTo(64.49, 2);
    expect(adapterParameters(llama7B, 32, seven) / 1e6).toBeCloseTo(79.95, 2);
  });

  it.each([
    ['six modules in float16 on INT2', 2 * adapterParameters(llama7B, 32, six), int(2), 1.057],
    ['seven modules', 2 * adapterParameters(llama7B, 32, seven), int(2), 1.071],
    ['six in float32', 4 * adapterParameters(llama7B, 32, six), int(2), 1.114],
    ['six on one group for each output', 2 * adapterParameters(llama7B, 32, six), int(2, -1), 1.06],
    ['six on INT4', 2 * adapterParameters(llama7B, 32, six), int(4), 1.033],
  ])('LREC of rank 32 costs: %s', (_what, adapters, weights, ratio) => {
    expect(1 + adapters / weights).toBeCloseTo(ratio, 3);
  });

  it('is fine-tuned on INT4 codes in 4.98 GB, and with LoRA on float32 weights in 28.33', () => {
    const adapters = adapterParameters(llama7B, 8, ['q_proj', 'v_proj']);
    const onCodes = (windows: number) => trainingMemory(llama7B, int(4), adapters, { windows, tokens: 512 }).total;
    expect(onCodes(1) / GB).toBeCloseTo(4.38, 2);
    expect((onCodes(1) + GPU_CONTEXT_BYTES) / GB).toBeCloseTo(4.98, 2);
    expect(onCodes(4) / GB).toBeCloseTo(5.64, 2);
    const onDense = (bytes: number) =>
      trainingMemory(llama7B, bytes * parameterCount(llama7B), adapters, { windows: 1, tokens: 512, activationBytes: bytes }).total;
    expect(onDense(4) / GB).toBeCloseTo(27.73, 2);
    expect((onDense(4) + GPU_CONTEXT_BYTES) / (onCodes(1) + GPU_CONTEXT_BYTES)).toBeCloseTo(5.69, 2);
    expect(onDense(2) / onCodes(1)).toBeCloseTo(3.2, 1);
    // The other reading of 5.6: checkpoints, float16 against INT2 with adapters.
    expect((2 * parameterCount(llama7B)) / (int(2) + 2 * adapterParameters(llama7B, 32, six))).toBeCloseTo(5.64, 2);
  });

  it('gives the published 5.6 and 1.05 with their baselines', () => {
    const { memory, overhead } = publishedRatios(llama7B);
    expect(memory.ratio).toBeCloseTo(5.69, 2);
    expect(memory.of).toContain('float32');
    expect(overhead.ratio).toBeCloseTo(1.057, 3);
    expect(overhead.over).toContain('INT2');
  });

  it('takes a teacher cache of 131 MB a window, and logits of 0.92 GB a batch of 7', () => {
    expect(logitBytes(llama7B, 2048) / 1e6).toBeCloseTo(131, 0);
    expect((10_000 * logitBytes(llama7B, 2048)) / 1e12).toBeCloseTo(1.31, 2);
    expect(logitBytes(llama7B, 7 * 2048) / GB).toBeCloseTo(0.92, 2);
  });
});

describe('memory model', () => {
  it('is what our own checkpoint of a model counts', async () => {
    const backend = createReferenceBackend();
    const model = createToyModel();
    const [bits, groupSize] = [2, 16];
    const calibration = createToyTokens();
    const { model: quantized } = await quantize({ model, backend, recipe: [rounding({ bits, groupSize })], calibration });
    const { hiddenSize, blockCount, headCount, keyValueHeadCount, vocabularySize } = model.config;
    const shape = llamaShape({ hiddenSize, innerSize: 48, blockCount, headCount, keyValueHeadCount, vocabularySize });
    expect(checkpointBits(quantized)).toBe(8 * quantizedBytes(shape, { bits, groupSize, groupIndices: false }));
    expect(checkpointBits(model)).toBe(16 * parameterCount(shape));
  });

  it('grows with bits, rank, tokens and windows, and falls with larger groups', () => {
    const size = fc.integer({ min: 1, max: 8 }).map((n) => 64 * n);
    const shapes = fc
      .record({ hiddenSize: size, innerSize: size, blockCount: fc.integer({ min: 1, max: 9 }), vocabularySize: size })
      .map((sizes) => llamaShape({ ...sizes, headCount: 4 }));
    fc.assert(
      fc.property(shapes, fc.integer({ min: 1, max: 7 }), fc.constantFrom(8, 16, 32), (shape, bits, groupSize) => {
        const bytes = (change: object) => quantizedBytes(shape, { bits, groupSize, ...change });
        expect(bytes({ bits: bits + 1 })).toBeGreaterThan(bytes({}));
        expect(bytes({ groupSize: 2 * groupSize })).toBeLessThan(bytes({}));
        expect(bytes({ groupSize: -1 })).toBeLessThanOrEqual(bytes({}));
        expect(adapterParameters(shape, bits + 1, six)).toBeGreaterThan(adapterParameters(shape, bits, six));
        expect(activationBytes(shape, { windows: 1, tokens: 17 })).toBeGreaterThan(activationBytes(shape, { windows: 1, tokens: 16 }));
        expect(activationBytes(shape, { windows: 2, tokens: 16 })).toBe(2 * activationBytes(shape, { windows: 1, tokens: 16 }));
      }),
    );
  });

  it('counts a shared embedding once', () => {
    const sizes = { hiddenSize: 64, innerSize: 128, blockCount: 2, headCount: 4, vocabularySize: 100 };
    expect(parameterCount(llamaShape(sizes)) - parameterCount(llamaShape({ ...sizes, tiedEmbeddings: true }))).toBe(6400);
  });
});
