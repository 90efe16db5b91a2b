// Corrections that choose the quantizer's input: LoftQ keeps its best round, PiSSA takes the weight's own directions out.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng } from '@lowbit/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  bestCorrection,
  dequantizeCodes,
  fitGrid,
  type GptqFactor,
  type Grid,
  gptqFactor,
  gptqSolve,
  gramRoot,
  identityRoot,
  loftq,
  pissa,
  type QuantizeDense,
  roundToGrid,
} from '../src/index.js';
import {
  correlatedInputs,
  deltaOf,
  eigen,
  gramError,
  gramOf,
  multiply,
  norm,
  random,
  subtract,
  toRows,
  transpose,
} from './corrections-oracle.js';

const backend = createReferenceBackend();
const rng = createRng(4);
const [out, n] = [20, 24];
const shape = [out, n] as const;

interface Codes {
  readonly codes: Uint8Array;
  readonly grid: Grid;
}

function gridOf(weight: Float32Array, bits: number): Grid {
  return fitGrid(weight, shape, { bits, groupSize: 8, symmetric: false, clip: 'minmax', scaleDtype: 'float32' });
}

/** Round to nearest; `seen` collects what it was given. */
function nearest(bits: number, seen: Float32Array[] = []): QuantizeDense<Codes> {
  return async (weight) => {
    seen.push(weight);
    const grid = gridOf(weight, bits);
    const codes = roundToGrid(weight, grid);
    return { quantized: { codes, grid }, weight: dequantizeCodes(codes, grid) };
  };
}

function feedback(bits: number, factor: GptqFactor): QuantizeDense<Codes> {
  return async (weight) => {
    const grid = gridOf(weight, bits);
    const { codes } = await gptqSolve(backend, factor, weight, grid);
    return { quantized: { codes, grid }, weight: dequantizeCodes(codes, grid) };
  };
}

describe('loftq', () => {
  it('keeps the best round, is never worse than the first, and reports the errors there were', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 1, max: 5 }),
        fc.constantFrom(1, 0.25, 4),
        fc.nat(),
        async (bits, rank, rounds, scaling, seed) => {
          const weight = random(out, n, seed);
          const seen: Float32Array[] = [];
          const options = { rank, rng, scaling };
          const found = await loftq(backend, weight, shape, nearest(bits, seen), { ...options, rounds });
          expect(found.errors).toHaveLength(rounds);
          expect(seen).toHaveLength(rounds);
          expect(found.after).toBe(Math.min(...found.errors));
          const quantized = toRows(dequantizeCodes(found.quantized.codes, found.quantized.grid), n);
          const error = subtract(toRows(weight, n), quantized);
          expect(norm(error)).toBeCloseTo(found.before, 4);
          expect(norm(subtract(error, deltaOf(found, n, scaling)))).toBeCloseTo(found.after, 4);

          expect(seen[0]).toEqual(weight);
          const first = await nearest(bits)(weight);
          const plain = await bestCorrection(
            backend,
            weight.map((w, i) => w - first.weight[i]),
            shape,
            identityRoot,
            options,
          );
          expect(found.errors[0]).toBe(plain.after);
          if (rounds > 1) {
            const expected = subtract(toRows(weight, n), deltaOf(plain, n, scaling));
            expect(norm(subtract(toRows(seen[1], n), expected))).toBeLessThan(1e-5 * norm(expected));
          }
        },
      ),
      { numRuns: 40 },
    );
  });

  it('measures the error at the outputs where it is given a root: with feedback from the same inputs it gains there', async () => {
    let gain = 0;
    let rises = 0;
    const runs = 10;
    for (let seed = 0; seed < runs; seed++) {
      const weight = random(out, n, 100 + seed);
      const g = gramOf(correlatedInputs(200, n, seed), n);
      const gram = Float32Array.from(g.flat());
      const [root, factor] = [await gramRoot(backend, gram, n), await gptqFactor(backend, gram, n)];
      const found = await loftq(backend, weight, shape, feedback(3, factor), { rank: 3, rng, rounds: 5, root });
      const error = subtract(toRows(weight, n), toRows(dequantizeCodes(found.quantized.codes, found.quantized.grid), n));
      const left = Math.sqrt(gramError(subtract(error, deltaOf(found, n)), g));
      expect(left / found.after).toBeCloseTo(1, 4);
      expect(found.after).toBeLessThanOrEqual(found.errors[0]);
      gain += found.after / found.errors[0] / runs;
      if (found.errors.some((value, i) => i > 0 && value > found.errors[i - 1])) rises++;
    }
    expect(gain).toBeLessThan(0.88); // 0.862 measured
    // Rounds that make it worse are what the best one is kept for.
    expect(rises).toBeGreaterThan(0);
  });
});

describe('pissa', () => {
  it.each([1, 0.5])(
    'γ = %d: the residual has the singular values that the correction left, and both make up the weight',
    async (scaling) => {
      const weight = random(out, n, 9);
      const found = await pissa(backend, weight, shape, { rank: 5, rng, scaling });
      const residual = toRows(found.residual, n);
      const delta = deltaOf(found, n, scaling);
      const whole = residual.map((row, i) => row.map((value, j) => value + delta[i][j]));
      expect(norm(subtract(whole, toRows(weight, n)))).toBeLessThan(1e-6 * norm(whole));
      const squares = (matrix: number[][]): number[] => eigen(multiply(matrix, transpose(matrix))).values;
      const expected = squares(toRows(weight, n)).slice(5);
      for (const [i, value] of squares(residual)
        .slice(0, out - 5)
        .entries())
        expect(value).toBeCloseTo(expected[i], 3);
    },
  );

  it('leaves the quantizer a smaller error than the weight does', async () => {
    const weight = random(out, n, 10);
    const errorOf = async (target: Float32Array): Promise<number> =>
      norm(subtract(toRows(target, n), toRows((await nearest(3)(target)).weight, n)));
    const { residual } = await pissa(backend, weight, shape, { rank: 5, rng });
    expect((await errorOf(residual)) / (await errorOf(weight))).toBeLessThan(0.67); // 0.643 measured
  });
});
