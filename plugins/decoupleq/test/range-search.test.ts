// The shrink search against trying every factor in float64.
import { roundToGrid } from '@lowbit/quant';
import { describe, expect, it } from 'vitest';
import type { LayerProblem } from '../src/problem.js';
import { type RangeSearch, searchRange } from '../src/range-search.js';
import { rowErrors } from '../src/row-errors.js';
import { coveringScales } from '../src/stored-scales.js';
import { bestShrink, coveringGrid, nearest, rowError, values } from './oracle.js';
import { hessianRows, layerOf, weightRows } from './problems.js';

/** Error of rounding to nearest on the covering grid shrunk by a factor. */
function errorAt(h: readonly number[][], w: readonly number[], bits: number, groupSize: number, factor: number): number {
  const grid = coveringGrid(w, bits, groupSize);
  const [scale, offset] = [grid.scale.map((s) => s * factor), grid.offset.map((z) => z * factor)];
  return rowError(h, w, values({ codes: nearest(w, bits, scale, offset), scale, offset }));
}

/** The search from the covering grid. */
async function searched(problem: LayerProblem, search: RangeSearch): Promise<Awaited<ReturnType<typeof searchRange>>> {
  const base = coveringScales(problem, 'float32');
  const codes = roundToGrid(problem.weight, { ...problem, ...base });
  return searchRange(problem, base, search, await rowErrors(problem, { ...base, codes }));
}

describe('searchRange', () => {
  it.each([
    { bits: 2, groupSize: 8 },
    { bits: 3, groupSize: 24 },
  ])('full: the best of the 160 published factors in each row, at $bits bits in groups of $groupSize', async ({ bits, groupSize }) => {
    const problem = await layerOf({ rows: 9, inputs: 24, groupSize, bits, seed: 51 });
    const h = hessianRows(problem) as number[][];
    const { shrink, errors } = await searched(problem, 'full');
    weightRows(problem).forEach((w, r) => {
      const best = bestShrink(h, w, bits, coveringGrid(w, bits, groupSize));
      expect(shrink[r]).toBeCloseTo(best, 6);
      expect(errors[r] / errorAt(h, w, bits, groupSize, best)).toBeCloseTo(1, 4);
    });
  });

  it('coarse to fine: its errors are true, below the covering range, and a few per cent above the full search', async () => {
    const problem = await layerOf({ rows: 60, inputs: 24, groupSize: 12, seed: 52 });
    const h = hessianRows(problem) as number[][];
    const [full, fine] = [await searched(problem, 'full'), await searched(problem, 'coarse-to-fine')];
    let [all, few] = [0, 0];
    weightRows(problem).forEach((w, r) => {
      expect(fine.errors[r] / errorAt(h, w, 2, 12, fine.shrink[r])).toBeCloseTo(1, 3);
      expect(fine.errors[r]).toBeLessThanOrEqual(errorAt(h, w, 2, 12, 1) * (1 + 1e-5));
      expect(fine.shrink[r]).toBeGreaterThanOrEqual(0.205 - 1e-6);
      all += full.errors[r];
      few += fine.errors[r];
    });
    // 1.022 measured.
    expect(few / all).toBeLessThan(1.05);
  });

  it('symmetric: the scale alone shrinks, and the zero stays on its code', async () => {
    const problem = await layerOf({ rows: 30, inputs: 16, groupSize: 8, seed: 53, zero: 'symmetric' });
    const h = hessianRows(problem) as number[][];
    const base = coveringScales(problem, 'float32');
    const { shrink, errors } = await searched(problem, 'full');
    weightRows(problem).forEach((w, r) => {
      const at = (factor: number): number => {
        const scale = [...base.scale.subarray(r * 2, r * 2 + 2)].map((s) => s * factor);
        const offset = scale.map((s) => -2 * s);
        return rowError(h, w, values({ codes: nearest(w, 2, scale, offset), scale, offset }));
      };
      expect(errors[r] / at(shrink[r])).toBeCloseTo(1, 4);
      for (const factor of [1, 0.9, 0.8, 0.7, 0.6, 0.5]) expect(at(factor)).toBeGreaterThanOrEqual(errors[r] * (1 - 1e-4));
    });
  });

  it('keeps the covering range of a row of zeros', async () => {
    const problem = await layerOf({ rows: 2, inputs: 8, groupSize: 4, seed: 54, weight: new Float32Array(16) });
    const { shrink, errors } = await searched(problem, 'coarse-to-fine');
    expect([...shrink]).toEqual([1, 1]);
    expect([...errors]).toEqual([0, 0]);
  });
});
