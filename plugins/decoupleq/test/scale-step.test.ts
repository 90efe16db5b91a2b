// The S-step: least error in closed form, stored as it is judged, and finite whatever the codes.
import { createRng, roundToFloat16 } from '@lowbit/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { LayerProblem, Quantized } from '../src/problem.js';
import { improveScales } from '../src/scale-step.js';
import { scaleSolver } from '../src/scale-system.js';
import { normalEquations, rowError, scaleStep, solveDense, values } from './oracle.js';
import { hessianRows, layerOf, rowsOf, weightRows } from './problems.js';

const exact = { ridge: 0, scaleDtype: 'float32' } as const;

/** Random codes on random grids. */
function randomStart({ weight, bits, groupSize }: LayerProblem, seed: number): Quantized {
  const rng = createRng(seed);
  const codes = Uint8Array.from(rng.at('codes').uniform(weight.length), (x) => Math.floor(x * 2 ** bits));
  const scale = rng.at('scale').normal(weight.length / groupSize);
  const offset = rng.at('offset').normal(weight.length / groupSize);
  return { codes, scale, offset };
}

const everyRow = ({ outFeatures }: LayerProblem): Int32Array => Int32Array.from({ length: outFeatures }, (_, r) => r);

const errorsOf = (problem: LayerProblem, quantized: Quantized): number[] =>
  rowsOf(problem, quantized).map((row, r) => rowError(hessianRows(problem), weightRows(problem)[r], values(row)));

describe('scaleSolver', () => {
  it('solves P·θ = y to 1e-8 in float64, whatever the number of groups', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 0, max: 1e6 }), (groups, seed) => {
        const rng = createRng(seed);
        const size = 2 * groups;
        const x = rng.at('x').normal(3 * size * size);
        const p = Array.from({ length: size }, (_, i) =>
          Array.from({ length: size }, (__, j) => {
            let total = 0;
            for (let t = 0; t < 3 * size; t++) total += x[t * size + i] * x[t * size + j];
            return total;
          }),
        );
        const y = [...rng.at('y').normal(size)];
        const lower = choleskyOf(p.slice(groups).map((row) => row.slice(groups)));
        // V = P₁₂L⁻ᵀ: each row solves L v = p.
        const v = p.slice(0, groups).map((row) => solveDense(lower, row.slice(groups)));
        const schur = p
          .slice(0, groups)
          .map((row, i) => row.slice(0, groups).map((value, j) => value - v[i].reduce((t, e, k) => t + e * v[j][k], 0)));
        const system = {
          schur: Float64Array.from(schur.flat()),
          coupling: Float64Array.from(v.flat()),
          offsetFactor: Float64Array.from(lower.flat()),
          scaleGradient: Float64Array.from(y.slice(0, groups), (value) => -value),
          offsetGradient: Float64Array.from(y.slice(groups), (value) => -value),
          ridge: 0,
        };
        const solver = scaleSolver(groups);
        const { scale, offset, held } = solver.solve(system);
        expect(held).toBe(0);
        const theta = [...scale, ...offset];
        const largest = Math.max(...y.map(Math.abs));
        p.forEach((row, i) => {
          expect(Math.abs(row.reduce((total, value, j) => total + value * theta[j], 0) - y[i])).toBeLessThan(1e-8 * largest);
        });
        // At the minimum 2gᵀδ + δᵀPδ = gᵀδ.
        const change = solver.change(system, Float64Array.from(scale), Float64Array.from(offset));
        const expected = -theta.reduce((total, value, i) => total + value * y[i], 0);
        expect(Math.abs(change - expected)).toBeLessThan(1e-8 * Math.abs(expected));
      }),
    );
  });

  it('holds an unknown that the others stand for already, and solves the rest', () => {
    const solver = scaleSolver(3);
    const schur = Float64Array.of(1, 1, 0, 1, 1, 0, 0, 0, 2);
    const { scale, held } = solver.solve({ schur, scaleGradient: Float64Array.of(-1, -1, -4), ridge: 0 });
    expect(held).toBe(1);
    expect(scale[1]).toBe(0);
    expect(scale[0]).toBeCloseTo(1, 12);
    expect(scale[2]).toBeCloseTo(2, 12);
  });
});

/** Textbook Cholesky factor. */
function choleskyOf(a: number[][]): number[][] {
  const lower = a.map((row) => row.map(() => 0));
  for (let i = 0; i < a.length; i++) {
    for (let j = 0; j <= i; j++) {
      const rest = a[i][j] - lower[i].slice(0, j).reduce((total, value, k) => total + value * lower[j][k], 0);
      lower[i][j] = i === j ? Math.sqrt(rest) : rest / lower[j][j];
    }
  }
  return lower;
}

describe('improveScales', () => {
  it.each([1, 2, 6])('finds the scales and offsets of a dense solution, %i groups', async (groups) => {
    for (const seed of [1, 2, 3]) {
      const problem = await layerOf({ rows: 5, inputs: 24, groupSize: 24 / groups, seed });
      const start = randomStart(problem, seed);
      const { quantized, change, held } = await improveScales(problem, start, everyRow(problem), exact);
      expect(held).toBe(0);
      const before = errorsOf(problem, start);
      rowsOf(problem, start).forEach(({ codes }, r) => {
        const w = weightRows(problem)[r];
        const best = rowError(hessianRows(problem), w, values({ codes, ...scaleStep(hessianRows(problem), w, codes, groups) }));
        const found = rowError(hessianRows(problem), w, values(rowsOf(problem, quantized)[r]));
        expect(found / best).toBeCloseTo(1, 4);
        expect(found).toBeLessThan(before[r]);
        expect((before[r] + change[r]) / best).toBeCloseTo(1, 3);
      });
    }
  });

  it('leaves nothing to gain: the gradient is 0 and every change of a scale or an offset costs', async () => {
    const problem = await layerOf({ rows: 3, inputs: 16, groupSize: 8, seed: 4 });
    const { quantized } = await improveScales(problem, randomStart(problem, 4), everyRow(problem), exact);
    const h = hessianRows(problem);
    rowsOf(problem, quantized).forEach(({ codes, scale, offset }, r) => {
      const w = weightRows(problem)[r];
      const { p, y } = normalEquations(h, w, codes, 2);
      const theta = [...scale, ...offset];
      const least = rowError(h, w, values({ codes, scale, offset }));
      p.forEach((row, i) => {
        const terms = row.map((value, j) => value * theta[j]);
        const size = Math.max(...terms.map(Math.abs), Math.abs(y[i]));
        expect(Math.abs(terms.reduce((total, term) => total + term, 0) - y[i])).toBeLessThan(1e-5 * size);
        for (const step of [-0.01, 0.01]) {
          const moved = theta.with(i, theta[i] + step * (Math.abs(theta[i]) + 0.1));
          expect(rowError(h, w, values({ codes, scale: moved.slice(0, 2), offset: moved.slice(2) }))).toBeGreaterThan(least);
        }
      });
    });
  });

  it('never raises an error, for any codes, bits, zero, precision and ridge, and mirrors codes rather than keep a negative scale', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 6 }),
        fc.constantFrom(1, 2, 4),
        fc.constantFrom(2, 3, 8),
        fc.constantFrom('free', 'integer', 'symmetric'),
        fc.constantFrom('float16', 'float32'),
        fc.constantFrom(0, 1e-6, 1),
        fc.integer({ min: 0, max: 10_000 }),
        async (rows, groups, bits, zero, scaleDtype, ridge, seed) => {
          const problem = await layerOf({ rows, inputs: 16, groupSize: 16 / groups, seed, bits, zero });
          const start = randomStart(problem, seed);
          for (let g = 0; g < start.scale.length; g++) {
            start.scale[g] = roundToFloat16(Math.abs(start.scale[g]) + 0.01);
            const zeroCode = zero === 'symmetric' ? 2 ** (bits - 1) : g % 2 ** bits;
            start.offset[g] = zero === 'free' ? roundToFloat16(start.offset[g]) : -Math.fround(start.scale[g] * zeroCode);
          }
          const { quantized, change } = await improveScales(problem, start, everyRow(problem), { ridge, scaleDtype });
          const [before, after] = [errorsOf(problem, start), errorsOf(problem, quantized)];
          before.forEach((error, r) => {
            expect(after[r]).toBeLessThanOrEqual(error * (1 + 1e-6));
            expect(Math.abs(error + change[r] - after[r])).toBeLessThanOrEqual(1e-5 * error);
          });
          if (zero !== 'symmetric') expect(quantized.scale.every((s) => s > 0)).toBe(true);
          quantized.scale.forEach((s, g) => {
            if (scaleDtype === 'float16') expect(roundToFloat16(s)).toBe(s);
            const code = -quantized.offset[g] / s;
            if (zero === 'free' && scaleDtype === 'float16') expect(roundToFloat16(quantized.offset[g])).toBe(quantized.offset[g]);
            if (zero === 'symmetric') expect(code).toBeCloseTo(2 ** (bits - 1), 4);
            if (zero === 'integer') expect(Math.abs(code - Math.round(code))).toBeLessThan(1e-4);
            if (zero === 'integer') expect(Math.round(code)).toBeGreaterThanOrEqual(0);
            if (zero === 'integer') expect(Math.round(code)).toBeLessThanOrEqual(2 ** bits - 1);
          });
        },
      ),
      { numRuns: 60 },
    );
  });

  it('integer: no worse than the best scales for the zero points as they are, and better where zero points move', async () => {
    let moved = 0;
    for (const seed of [8, 9, 10]) {
      const problem = await layerOf({ rows: 6, inputs: 16, groupSize: 8, seed, zero: 'integer' });
      const start = randomStart(problem, seed);
      const zeroOf = (g: number): number => (g * 5) % 4;
      start.scale.forEach((s, g) => {
        start.scale[g] = Math.abs(s) + 0.01;
        start.offset[g] = -Math.fround(start.scale[g] * zeroOf(g));
      });
      const { quantized } = await improveScales(problem, start, everyRow(problem), exact);
      const after = errorsOf(problem, quantized);
      rowsOf(problem, start).forEach(({ codes }, r) => {
        const w = weightRows(problem)[r];
        const steps = codes.map((code, i) => code - zeroOf(2 * r + Math.floor(i / 8)));
        const { p, y } = normalEquations(hessianRows(problem), w, steps, 2);
        const scale = solveDense(
          p.slice(0, 2).map((row) => row.slice(0, 2)),
          y.slice(0, 2),
        );
        const best = rowError(hessianRows(problem), w, values({ codes: steps, scale, offset: [0, 0] }));
        expect(after[r]).toBeLessThanOrEqual(best * (1 + 1e-5));
        if (after[r] < 0.99 * best) moved++;
      });
    }
    expect(moved).toBeGreaterThan(5);
  });

  it('stays finite, and holds the scale, where all codes of a group are equal', async () => {
    const problem = await layerOf({ rows: 4, inputs: 16, groupSize: 8, seed: 5 });
    const start = randomStart(problem, 5);
    start.codes.fill(3, 0, 8); // row 0, group 0
    start.codes.fill(0, 24, 32); // row 1, group 1: the scale has no effect at all
    const { quantized, held } = await improveScales(problem, start, everyRow(problem), { ...exact, ridge: 1e-6 });
    expect(held).toBe(2);
    expect(quantized.scale.every(Number.isFinite) && quantized.offset.every(Number.isFinite)).toBe(true);
    const [before, after] = [errorsOf(problem, start), errorsOf(problem, quantized)];
    after.forEach((error, r) => {
      expect(error).toBeLessThan(before[r]);
    });
    // Where a whole group has one code its offset alone does what both could do: the other groups' codes still decide.
    const h = hessianRows(problem);
    const [w] = weightRows(problem);
    const { codes } = rowsOf(problem, start)[0];
    const { p, y } = normalEquations(h, w, codes, 2);
    const kept = [1, 2, 3];
    const theta = solveDense(
      kept.map((i) => kept.map((j) => p[i][j])),
      kept.map((i) => y[i]),
    );
    const best = rowError(h, w, values({ codes, scale: [0, theta[0]], offset: theta.slice(1) }));
    expect(after[0] / best).toBeCloseTo(1, 4);
  });

  it('touches only the rows it is asked for, few or many', async () => {
    const problem = await layerOf({ rows: 9, inputs: 8, groupSize: 4, seed: 6 });
    const start = randomStart(problem, 6);
    const whole = await improveScales(problem, start, everyRow(problem), exact);
    const part = await improveScales(problem, start, Int32Array.of(2, 3, 7), exact);
    for (let r = 0; r < 9; r++) {
      const isAsked = [2, 3, 7].includes(r);
      expect(rowsOf(problem, part.quantized)[r]).toEqual(rowsOf(problem, isAsked ? whole.quantized : start)[r]);
      expect(part.change[r]).toBe(isAsked ? whole.change[r] : 0);
    }
    const none = await improveScales(problem, start, new Int32Array(0), exact);
    expect(none.quantized).toEqual(start);
  });

  it('serves more rows than a panel holds', async () => {
    const problem = await layerOf({ rows: 600, inputs: 4, groupSize: 2, seed: 7 });
    const start = randomStart(problem, 7);
    const { quantized } = await improveScales(problem, start, everyRow(problem), exact);
    const [before, after] = [errorsOf(problem, start), errorsOf(problem, quantized)];
    const h = hessianRows(problem);
    for (const r of [0, 255, 256, 343, 344, 511, 512, 599]) {
      const w = weightRows(problem)[r];
      const { codes } = rowsOf(problem, start)[r];
      if (codes[0] === codes[1] || codes[2] === codes[3]) continue;
      const best = rowError(h, w, values({ codes, ...scaleStep(h, w, codes, 2) }));
      expect(after[r] - best).toBeLessThan(1e-5 * before[r]);
    }
  });
});
