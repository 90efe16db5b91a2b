// Grids: rounding error within half a step, idempotence, codes in range, searched ranges no worse, and what must be refused.
import { createRng, fitsFloat16, roundHalfEven, roundToFloat16 } from '@lowbit/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { dequantizeCodes, fitGrid, type Grid, type GridOptions, nearestCode, roundToGrid } from '../src/index.js';

const plain: GridOptions = { bits: 4, groupSize: 8, symmetric: false, clip: 'minmax', scaleDtype: 'float16' };

const optionCases: fc.Arbitrary<GridOptions> = fc.record({
  bits: fc.integer({ min: 1, max: 8 }),
  groupSize: fc.constantFrom(-1, 4, 8, 16),
  symmetric: fc.boolean(),
  clip: fc.constantFrom('minmax' as const, 'mse' as const),
  scaleDtype: fc.constantFrom('float16' as const, 'float32' as const),
});

/** Weights [3, 16] of any common magnitude, some of them 0 and some groups one-sided. */
const weightCases = fc
  .record({
    values: fc.array(fc.float({ min: -1, max: 1, noNaN: true }), { minLength: 48, maxLength: 48 }),
    magnitude: fc.constantFrom(1e-3, 0.02, 1, 50),
    side: fc.constantFrom(-1, 0, 1),
  })
  .map(({ values, magnitude, side }) => Float32Array.from(values, (w) => magnitude * (side === 0 ? w : side * Math.abs(w))));

const squaredError = (weight: Float32Array, grid: Grid): number =>
  dequantizeCodes(roundToGrid(weight, grid), grid).reduce((total, w, i) => total + (w - weight[i]) ** 2, 0);

const groupOf = (grid: Grid, i: number): number => Math.floor(i / grid.groupSize);

describe('grids', () => {
  it('have codes in range, scales as stored, and zero on every asymmetric grid', () => {
    fc.assert(
      fc.property(weightCases, optionCases, (weight, options) => {
        const grid = fitGrid(weight, [3, 16], options);
        const maxCode = 2 ** options.bits - 1;
        expect(roundToGrid(weight, grid).every((code) => code <= maxCode)).toBe(true);
        expect(grid.scale.every((scale) => Number.isFinite(scale) && scale !== 0)).toBe(true);
        if (options.scaleDtype === 'float16') expect(fitsFloat16(grid.scale)).toBe(true);
        if (!options.symmetric) {
          const zeros = dequantizeCodes(roundToGrid(new Float32Array(48), grid), grid);
          expect(zeros.every((w) => w === 0)).toBe(true);
        }
      }),
    );
  });

  it('take every weight within their range to within half a step', () => {
    fc.assert(
      fc.property(weightCases, optionCases, (weight, options) => {
        const grid = fitGrid(weight, [3, 16], options);
        const near = dequantizeCodes(roundToGrid(weight, grid), grid);
        const maxCode = 2 ** options.bits - 1;
        weight.forEach((w, i) => {
          const scale = grid.scale[groupOf(grid, i)];
          const offset = grid.offset[groupOf(grid, i)];
          const [low, high] = [offset, offset + maxCode * scale].sort((a, b) => a - b);
          const slack = 1e-6 * Math.max(Math.abs(low), Math.abs(high));
          if (w >= low && w <= high) expect(Math.abs(near[i] - w)).toBeLessThanOrEqual(Math.abs(scale) / 2 + slack);
          else expect(Math.abs(near[i] - (w < low ? low : high))).toBeLessThanOrEqual(slack);
        });
      }),
    );
  });

  it('round what lies on them to itself', () => {
    fc.assert(
      fc.property(weightCases, optionCases, (weight, options) => {
        const grid = fitGrid(weight, [3, 16], options);
        const codes = roundToGrid(weight, grid);
        expect(roundToGrid(dequantizeCodes(codes, grid), grid)).toEqual(codes);
      }),
    );
  });

  it('cover every weight to within a step when ranges are not searched', () => {
    fc.assert(
      fc.property(weightCases, fc.integer({ min: 2, max: 8 }), fc.boolean(), (weight, bits, symmetric) => {
        const grid = fitGrid(weight, [3, 16], { ...plain, bits, symmetric, scaleDtype: 'float32' });
        const near = dequantizeCodes(roundToGrid(weight, grid), grid);
        // Symmetric: a weight beyond the last code of its side is clipped by one step at most. Asymmetric: zero's rounding takes half.
        weight.forEach((w, i) => {
          expect(Math.abs(near[i] - w)).toBeLessThanOrEqual(Math.abs(grid.scale[groupOf(grid, i)]) * (1 + 1e-5));
        });
      }),
    );
  });

  it('ties go to the even code', () => {
    fc.assert(
      fc.property(fc.integer({ min: -40, max: 60 }), (half) => {
        expect(nearestCode(half / 2, 1, 0, 15)).toBe(Math.min(15, Math.max(0, roundHalfEven(half / 2))));
      }),
    );
    expect([0.5, 1.5, 2.5, 3.5].map((w) => nearestCode(w, 1, 0, 15))).toEqual([0, 2, 2, 4]);
  });
});

describe('the asymmetric grid', () => {
  it('spans the smallest range with zero in it', () => {
    const grid = fitGrid(Float32Array.of(1, 2, 4, 3, -1, -2, -4, -3, -2, 0, 4, 1), [3, 4], { ...plain, bits: 2, groupSize: 4 });
    expect([...(grid.zeroPoint ?? [])]).toEqual([0, 3, 1]);
    expect([...grid.scale]).toEqual([4 / 3, 4 / 3, 2].map(roundToFloat16));
    const codes = roundToGrid(Float32Array.of(1, 2, 4, 3, -1, -2, -4, -3, -2, 0, 4, 1), grid);
    expect([...codes]).toEqual([1, 2, 3, 2, 2, 1, 0, 1, 0, 1, 3, 2]);
  });
});

describe('the symmetric grid', () => {
  it('puts the weight of largest magnitude on the code without mirror image', () => {
    const grid = fitGrid(Float32Array.of(0.5, 1, -0.25, 0, -1, 0.5, 0.25, -0.5), [2, 4], {
      ...plain,
      bits: 2,
      groupSize: 4,
      symmetric: true,
    });
    expect([...grid.scale]).toEqual([-0.5, 0.5]);
    const codes = roundToGrid(Float32Array.of(0.5, 1, -0.25, 0, -1, 0.5, 0.25, -0.5), grid);
    expect([...codes]).toEqual([1, 0, 2, 2, 0, 3, 2, 1]);
    expect([...dequantizeCodes(codes, grid)]).toEqual([0.5, 1, 0, 0, -1, 0.5, 0, -0.5]);
  });

  it('has the sign and the mean magnitude at one bit', () => {
    const grid = fitGrid(Float32Array.of(1, -2, 3, -2), [1, 4], { ...plain, bits: 1, groupSize: 4, symmetric: true });
    expect([...dequantizeCodes(roundToGrid(Float32Array.of(1, -2, 3, -2), grid), grid)]).toEqual([2, -2, 2, -2]);
  });

  it('rounds normal weights with less error than absmax / (2^(bits−1) − 1) would', () => {
    const weight = createRng(1).normal(4096);
    for (const bits of [2, 3, 4, 8]) {
      const grid = fitGrid(weight, [128, 32], { ...plain, bits, groupSize: 32, symmetric: true });
      const last = 2 ** (bits - 1) - 1;
      let usual = 0;
      for (let row = 0; row < 128; row++) {
        const values = weight.subarray(row * 32, row * 32 + 32);
        const scale = values.reduce((peak, w) => Math.max(peak, Math.abs(w)), 0) / last;
        for (const w of values) usual += (w - scale * Math.min(last, Math.max(-last - 1, Math.round(w / scale)))) ** 2;
      }
      expect(squaredError(weight, grid) / usual).toBeLessThan({ 2: 0.32, 3: 0.63, 4: 0.83, 8: 1.0 }[bits] ?? 0);
    }
  });
});

describe('the searched range', () => {
  const error = (weight: Float32Array, grid: Grid, importance: (input: number) => number): number =>
    dequantizeCodes(roundToGrid(weight, grid), grid).reduce(
      (total, w, i) => total + importance(i % grid.inFeatures) * Math.abs(w - weight[i]) ** 2.4,
      0,
    );

  it('is never worse than the covering one in the norm it minimises', () => {
    fc.assert(
      fc.property(weightCases, optionCases, (weight, options) => {
        const searched = error(weight, fitGrid(weight, [3, 16], { ...options, clip: 'mse' }), () => 1);
        const covering = error(weight, fitGrid(weight, [3, 16], { ...options, clip: 'minmax' }), () => 1);
        expect(searched).toBeLessThanOrEqual(covering * (1 + 1e-4) + 1e-30);
      }),
    );
  });

  it('comes within 1 % of a plain search over all hundredths', () => {
    const weight = createRng(2).normal(320);
    for (const bits of [2, 3, 4]) {
      const grid = fitGrid(weight, [10, 32], { ...plain, bits, groupSize: 32, clip: 'mse' });
      const maxCode = 2 ** bits - 1;
      for (let row = 0; row < 10; row++) {
        const values = weight.subarray(row * 32, row * 32 + 32);
        const low = Math.min(0, ...values);
        const high = Math.max(0, ...values);
        let least = Infinity;
        for (let step = 0; step < 80; step++) {
          const shrink = 1 - step / 100;
          const scale = roundToFloat16((shrink * (high - low)) / maxCode);
          const zero = roundHalfEven((-shrink * low) / scale);
          const point = (w: number): number => scale * (Math.min(maxCode, Math.max(0, roundHalfEven(w / scale + zero))) - zero);
          least = Math.min(
            least,
            values.reduce((sum, w) => sum + Math.abs(point(w) - w) ** 2.4, 0),
          );
        }
        const near = dequantizeCodes(roundToGrid(weight, grid), grid).subarray(row * 32, row * 32 + 32);
        expect(near.reduce((sum, w, i) => sum + Math.abs(w - values[i]) ** 2.4, 0)).toBeLessThanOrEqual(1.01 * least);
      }
    }
  });

  it('spares the inputs that matter', () => {
    const weight = createRng(3).normal(32);
    weight[5] = 4;
    const importance = new Float32Array(32).fill(1);
    importance[5] = 1000;
    const options = { ...plain, bits: 2, groupSize: -1, clip: 'mse' as const };
    const weighted = fitGrid(weight, [1, 32], options, importance);
    const even = fitGrid(weight, [1, 32], options);
    const at5 = (grid: Grid): number => Math.abs(dequantizeCodes(roundToGrid(weight, grid), grid)[5] - 4);
    expect(at5(weighted)).toBeLessThan(at5(even));
    expect(error(weight, weighted, (i) => importance[i])).toBeLessThan(error(weight, even, (i) => importance[i]));
  });
});

describe('degenerate weights', () => {
  it.each([true, false])('a group of zeros stays zero (symmetric: %s)', (symmetric) => {
    for (const clip of ['minmax', 'mse'] as const) {
      for (let bits = symmetric ? 2 : 1; bits <= 8; bits++) {
        const grid = fitGrid(new Float32Array(8), [1, 8], { ...plain, bits, symmetric, clip });
        expect(dequantizeCodes(roundToGrid(new Float32Array(8), grid), grid).every((w) => w === 0)).toBe(true);
      }
    }
    const binary = fitGrid(new Float32Array(8), [1, 8], { ...plain, bits: 1, symmetric: true });
    expect(dequantizeCodes(roundToGrid(new Float32Array(8), binary), binary).every((w) => Math.abs(w) < 1e-7)).toBe(true);
  });

  it('weights too small for a float16 scale still have one', () => {
    const grid = fitGrid(Float32Array.of(1e-9, -1e-9, 0, 1e-9), [1, 4], { ...plain, groupSize: 4 });
    expect([...grid.scale]).toEqual([2 ** -24]);
  });

  it('are refused with where and why', () => {
    const fit = (weight: Float32Array, options: Partial<GridOptions> = {}, shape = [2, 8], importance?: Float32Array) =>
      fitGrid(weight, shape, { ...plain, path: 'model.layers.0.mlp.gate_proj', ...options }, importance);
    const bad = new Float32Array(16);
    bad[11] = Number.NaN;
    expect(() => fit(bad)).toThrow(/^WEIGHT_NOT_FINITE: model\.layers\.0\.mlp\.gate_proj: output 1, input 3 is NaN/);
    const large = new Float32Array(16).fill(1e7);
    expect(() => fit(large)).toThrow(
      /^SCALE_RANGE: model\.layers\.0\.mlp\.gate_proj: weights of output 0 need a scale beyond float16; use scaleDtype 'float32'/,
    );
    expect(() => fit(large, { scaleDtype: 'float32' })).not.toThrow();
    expect(() => fit(new Float32Array(16), { groupSize: 3 })).toThrow(
      /^GROUP_SIZE: model\.layers\.0\.mlp\.gate_proj: 8 inputs do not divide into groups of 3; use -1/,
    );
    expect(() => fit(new Float32Array(16), { bits: 9 })).toThrow(/^BITS_RANGE: .*got 9/);
    expect(() => fit(new Float32Array(15))).toThrow(/^SHAPE_WEIGHT: .*15 weights do not fill a matrix \[2, 8\]/);
    expect(() => fit(new Float32Array(16), { clip: 'mse' }, [2, 8], new Float32Array(2))).toThrow(
      /^SHAPE_IMPORTANCE: .*2 importances do not fit 8 inputs/,
    );
  });
});
