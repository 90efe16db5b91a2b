// Relaxed W-step: stays in the box, and ends at the optimum of the box-constrained quadratic program.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng } from '@lowbit/core';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { relaxWeights } from '../src/code-steps/projected-adam.js';
import type { LayerProblem, Scales } from '../src/problem.js';
import { boxOf, correlatedProblem, rowErrors, scalesOf, total } from './code-step-problems.js';

const reference = createReferenceBackend();
const onnx = await createOnnxBackend({ threads: 1 });
afterAll(() => onnx.dispose());

/** Plain projected gradient descent in float64 with steps of 1 / λmax, from W cut to the box. */
function projectedGradient(problem: LayerProblem, scales: Scales, steps: number): Float64Array {
  const { weight, outFeatures, inFeatures: n, hessian } = problem;
  const { low, high } = boxOf(problem, scales);
  // Gershgorin's bound of the largest eigenvalue.
  let bound = 0;
  for (let i = 0; i < n; i++) bound = Math.max(bound, total(Float64Array.from(hessian.subarray(i * n, (i + 1) * n), Math.abs)));
  const w = Float64Array.from(weight, (v, i) => Math.min(high[i], Math.max(low[i], v)));
  for (let r = 0; r < outFeatures; r++) {
    const row = w.subarray(r * n, (r + 1) * n);
    for (let step = 0; step < steps; step++) {
      const d = row.map((v, i) => v - weight[r * n + i]);
      for (let i = 0; i < n; i++) {
        let gradient = 0;
        for (let j = 0; j < n; j++) gradient += d[j] * hessian[i * n + j];
        row[i] = Math.min(high[r * n + i], Math.max(low[r * n + i], row[i] - gradient / bound));
      }
    }
  }
  return w;
}

describe('relaxWeights', () => {
  it('stays in the box and does not end above where it starts', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(),
        fc.constantFrom(2, 3, 4),
        fc.constantFrom(4, 12),
        fc.double({ min: 0.3, max: 0.8, noNaN: true }),
        fc.boolean(),
        async (seed, bits, groupSize, shrink, alternateSigns) => {
          const problem = await correlatedProblem(reference, createRng(seed), { outFeatures: 5, inFeatures: 12, bits, groupSize });
          const scales = scalesOf(problem, { shrink, alternateSigns });
          const relaxed = await relaxWeights(problem, scales, { steps: 60, learningRate: 0.02 * Math.abs(scales.scale[0]) });
          const start = await relaxWeights(problem, scales, { steps: 0, learningRate: 1 });
          const { low, high } = boxOf(problem, scales);
          for (const [i, w] of relaxed.entries()) {
            // The ends are rounded to float32.
            expect(w).toBeGreaterThanOrEqual(low[i] - 1e-6 * (high[i] - low[i]));
            expect(w).toBeLessThanOrEqual(high[i] + 1e-6 * (high[i] - low[i]));
          }
          expect(total(rowErrors(problem, relaxed))).toBeLessThan(total(rowErrors(problem, start)));
        },
      ),
      { numRuns: 25 },
    );
  });

  it.each([
    ['reference', reference],
    ['onnxruntime', onnx],
  ])('%s: approaches the optimum of the box-constrained problem', async (_, backend) => {
    const problem = await correlatedProblem(backend, createRng(3), { outFeatures: 6, inFeatures: 16, bits: 2, groupSize: 8 });
    const scales = scalesOf(problem, { shrink: 0.5, alternateSigns: true });
    const start = total(rowErrors(problem, await relaxWeights(problem, scales, { steps: 0, learningRate: 1 })));
    const optimum = total(rowErrors(problem, projectedGradient(problem, scales, 20_000)));
    const relaxed = await relaxWeights(problem, scales, { steps: 2000, learningRate: 0.003 });
    const reached = total(rowErrors(problem, relaxed));
    expect(reached).toBeGreaterThanOrEqual(optimum * (1 - 1e-6));
    expect((reached - optimum) / (start - optimum)).toBeLessThan(1e-3);
  });

  it('returns W itself where the box holds it', async () => {
    const problem = await correlatedProblem(onnx, createRng(4), { outFeatures: 3, inFeatures: 12, bits: 3 });
    const scales = { scale: new Float32Array(3).fill(2), offset: new Float32Array(3).fill(-7) };
    expect(await relaxWeights(problem, scales, { steps: 20, learningRate: 0.01 })).toEqual(problem.weight);
  });

  it('does not depend on the scale of the Hessian, and scales with the weights', async () => {
    const problem = await correlatedProblem(onnx, createRng(5), { outFeatures: 4, inFeatures: 12, bits: 2, groupSize: 6 });
    const scales = scalesOf(problem, { shrink: 0.6 });
    const base = await relaxWeights(problem, scales, { steps: 30, learningRate: 0.01 });
    const louder = { ...problem, hessian: problem.hessian.map((h) => h * 2 ** 12) };
    expect(await relaxWeights(louder, scales, { steps: 30, learningRate: 0.01 })).toEqual(base);
    const larger = { ...problem, weight: problem.weight.map((w) => w * 2 ** -6) };
    const largerScales = { scale: scales.scale.map((s) => s * 2 ** -6), offset: scales.offset.map((o) => o * 2 ** -6) };
    const scaled = await relaxWeights(larger, largerScales, { steps: 30, learningRate: 0.01 * 2 ** -6 });
    expect(scaled.map((w) => w * 2 ** 6)).toEqual(base);
  });

  it('handles rows in panels of one shape: one program, and the rows of a layer of their own', async () => {
    const problem = await correlatedProblem(onnx, createRng(6), { outFeatures: 2049, inFeatures: 8, bits: 2 });
    const scales = scalesOf(problem, { shrink: 0.5 });
    const before = onnx.statistics.compilations;
    const relaxed = await relaxWeights(problem, scales, { steps: 5, learningRate: 0.05 });
    expect(onnx.statistics.compilations - before).toBe(1);
    for (const row of [0, 682, 683, 2048]) {
      const alone: LayerProblem = { ...problem, outFeatures: 1, weight: problem.weight.slice(row * 8, (row + 1) * 8) };
      const own = { scale: scales.scale.slice(row, row + 1), offset: scales.offset.slice(row, row + 1) };
      const expected = await relaxWeights(alone, own, { steps: 5, learningRate: 0.05 });
      for (const [i, w] of expected.entries()) expect(relaxed[row * 8 + i]).toBeCloseTo(w, 4);
    }
  });
});
