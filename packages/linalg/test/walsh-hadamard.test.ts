import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng, hadamard, readFloats, tensor, transpose } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { hadamardMatrix, hadamardTransform, planHadamard, walshHadamard } from '../src/index.js';
import { identity, multiply, relativeDifference, toRows, transposeRows } from './oracle.js';

const backend = createReferenceBackend();

function isHadamard(entries: Int8Array, n: number): boolean {
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let total = 0;
      for (let k = 0; k < n; k++) total += entries[i * n + k] * entries[j * n + k];
      if (total !== (i === j ? n : 0)) return false;
    }
  }
  return entries.every((entry) => entry === 1 || entry === -1);
}

describe('hadamardMatrix', () => {
  it.each([1, 2, 4, 8, 12, 20, 24, 28, 36, 40, 44, 52, 60, 76, 100, 104, 108, 140, 148, 156, 172, 312])('order %i', (order) => {
    expect(isHadamard(hadamardMatrix(order).entries, order)).toBe(true);
  });

  it.each([0, 3, 6, 18, 92, 2.5])('refuses order %d', (order) => {
    expect(() => hadamardMatrix(order)).toThrow(/HADAMARD_SIZE/);
  });
});

describe('planHadamard', () => {
  // Hidden sizes, FFN sizes and head counts of Llama, Mistral, Qwen2, Qwen3, DeepSeek and the small models of the examples.
  it.each([
    [2048, 1],
    [896, 28],
    [1536, 12],
    [3584, 28],
    [5120, 20],
    [6144, 12],
    [288, 36],
    [576, 36],
    [768, 12],
    [11008, 172],
    [13824, 108],
    [14336, 28],
    [17920, 140],
    [18944, 148],
    [27648, 108],
    [28672, 28],
    [29568, 924],
    [4864, 76],
    [8960, 140],
    [5632, 44],
    [9728, 76],
    [25600, 100],
    [10944, 684],
    [12, 12],
    [28, 28],
    [40, 20],
  ])('size %i has factor %i', (size, order) => {
    const plan = planHadamard(size);
    expect(plan.factor?.order ?? 1).toBe(order);
    expect(plan.power * order).toBe(size);
    expect(plan.blocks).toBe(1);
  });

  it('throws for a size without a Hadamard matrix unless blocks are allowed', () => {
    expect(() => planHadamard(14)).toThrow(/HADAMARD_SIZE.*7 blocks of 2/);
    expect(planHadamard(14, { fallback: 'block-diagonal' })).toEqual({ size: 14, power: 2, blocks: 7 });
    expect(() => planHadamard(0)).toThrow(/HADAMARD_SIZE/);
  });
});

describe('walshHadamard', () => {
  it.each([1, 2, 12, 24, 64, 128, 192, 256])(
    'size %i is orthonormal, its transpose the inverse, and it agrees with the operator',
    async (size) => {
      const plan = planHadamard(size);
      const x = createRng(size).normal(3 * size);
      const y = await walshHadamard(backend, x, 3, plan);
      const back = await walshHadamard(backend, y, 3, plan, { transpose: true });
      expect(relativeDifference(toRows(back, 3, size), toRows(x, 3, size))).toBeLessThan(1e-6);
      const factor = plan.factor && tensor(plan.factor.entries, [plan.factor.order, plan.factor.order]);
      const [viaOperator] = await backend.evaluate([hadamard(tensor(x, [3, size]), factor)]);
      expect(relativeDifference(toRows(y, 3, size), toRows(await readFloats(viaOperator), 3, size))).toBeLessThan(1e-6);
    },
  );

  it('multiplies by a matrix of ±1/√n', async () => {
    const h = toRows(await walshHadamard(backend, Float32Array.from(identity(24).flat()), 24, planHadamard(24)), 24, 24);
    expect(h.flat().every((entry) => Math.abs(Math.abs(entry) * Math.sqrt(24) - 1) < 1e-6)).toBe(true);
    expect(relativeDifference(multiply(h, transposeRows(h)), identity(24))).toBeLessThan(1e-6);
  });

  it('falls back to independent stretches', async () => {
    const plan = planHadamard(12 * 2 + 4, { fallback: 'block-diagonal' });
    expect(plan.blocks).toBe(1);
    const blocks = planHadamard(6, { fallback: 'block-diagonal' });
    const y = await walshHadamard(backend, Float32Array.of(1, 1, 0, 0, 3, -3), 1, blocks);
    const expected = [Math.SQRT2, 0, 0, 0, 0, 3 * Math.SQRT2];
    for (const [i, value] of expected.entries()) expect(y[i]).toBeCloseTo(value, 5);
  });

  it('checks the data against the plan', async () => {
    await expect(walshHadamard(backend, new Float32Array(5), 1, planHadamard(4))).rejects.toMatchObject({ code: 'SHAPE_DATA' });
  });
});

describe('hadamardTransform', () => {
  it.each([1, 2, 24, 128])('size %i: any axis, as the last one after a transposition', async (size) => {
    const transform = hadamardTransform(planHadamard(size));
    const x = tensor(createRng(size).normal(3 * size * 5), [3, size, 5]);
    for (const isTransposed of [false, true]) {
      const actual = transform(x, { axis: 1, transpose: isTransposed });
      const expected = transpose(transform(transpose(x, [0, 2, 1]), { transpose: isTransposed }), [0, 2, 1]);
      const [a, b] = await backend.evaluate([actual, expected]);
      const rows = async (t: typeof a) => toRows(await readFloats(t), 3 * size, 5);
      expect(relativeDifference(await rows(a), await rows(b))).toBeLessThan(1e-6);
    }
  });

  it('asks for an axis of its size', () => {
    const transform = hadamardTransform(planHadamard(4));
    expect(() => transform(tensor([1, 2, 3], [3]))).toThrow(/SHAPE_DATA/);
  });
});
