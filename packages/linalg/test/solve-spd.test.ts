import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { solveSpd } from '../src/index.js';
import { randomGram, randomRows, relativeDifference, solve } from './oracle.js';

/** θᵀAθ − 2bᵀθ */
function objective(a: number[][], b: number[], theta: ArrayLike<number>): number {
  return b.reduce((total, value, i) => total + theta[i] * (a[i].reduce((sum, entry, j) => sum + entry * theta[j], 0) - 2 * value), 0);
}

describe('solveSpd', () => {
  it('solves every system of a batch like elimination does', () => {
    const systems = [1, 2, 3].map((seed) => ({ a: randomGram(7, 20, seed), b: randomRows(7, 1, seed + 50) }));
    const { solution, ridge } = solveSpd({
      matrices: Float64Array.from(systems.flatMap(({ a }) => a.flat())),
      rhs: Float64Array.from(systems.flatMap(({ b }) => b.flat())),
      size: 7,
    });
    expect([...ridge]).toEqual([0, 0, 0]);
    systems.forEach(({ a, b }, k) => {
      const found = [...solution.subarray(k * 7, k * 7 + 7)].map((value) => [value]);
      expect(relativeDifference(found, solve(a, b))).toBeLessThan(1e-8);
    });
  });

  it('a centred ridge never ends above the centre, however singular the matrix', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 4 }), fc.integer(), (n, samples, seed) => {
        const a = randomGram(n, samples, seed);
        // A right-hand side in the range of A keeps the objective bounded below.
        const b = a.map((row) => row.reduce((total, value) => total + value, 0));
        const center = Float64Array.from(randomRows(1, n, seed + 9)[0]);
        const { solution } = solveSpd({ matrices: Float64Array.from(a.flat()), rhs: Float64Array.from(b), size: n, ridge: 1e-6, center });
        const before = objective(a, b, center);
        expect(objective(a, b, solution)).toBeLessThanOrEqual(before + 1e-9 * Math.abs(before));
      }),
    );
  });

  it('solves (A + λI)θ = b + λ·center', () => {
    const { solution } = solveSpd({
      matrices: Float64Array.of(2, 0, 0, 4),
      rhs: Float64Array.of(1, 1),
      size: 2,
      ridge: 1,
      center: Float64Array.of(1, -1),
    });
    expect(solution[0]).toBeCloseTo((1 + 3) / 5, 12);
    expect(solution[1]).toBeCloseTo((1 - 3) / 7, 12);
  });

  it('raises the ridge of a singular system alone, and reports it', () => {
    const { solution, ridge } = solveSpd({ matrices: Float64Array.of(1, 1, 1, 1, 1, 0, 0, 1), rhs: Float64Array.of(2, 2, 5, 6), size: 2 });
    expect(ridge[0]).toBeGreaterThan(0);
    expect(ridge[1]).toBe(0);
    expect(solution[0] + solution[1]).toBeCloseTo(2, 3);
    expect([...solution.subarray(2)]).toEqual([5, 6]);
  });

  it('returns the centre for a matrix of zeros', () => {
    const { solution } = solveSpd({ matrices: new Float64Array(4), rhs: new Float64Array(2), size: 2, center: Float64Array.of(3, -4) });
    expect([...solution].map((value) => Math.round(value * 1e9) / 1e9)).toEqual([3, -4]);
  });

  it('refuses wrong shapes and indefinite systems', () => {
    expect(() => solveSpd({ matrices: new Float64Array(5), rhs: new Float64Array(2), size: 2 })).toThrow(/SHAPE_DATA/);
    expect(() => solveSpd({ matrices: Float64Array.of(1, 0, 0, -1e9), rhs: new Float64Array(2), size: 2 })).toThrow(/SPD_FAILED/);
  });
});
