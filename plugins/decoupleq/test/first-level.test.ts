// First-level W-step: codes of the grid, an error below rounding's, and GPTQ as its special case.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng } from '@lowbit/core';
import { gptqSolve, nearestCode } from '@lowbit/quant';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { firstLevelCodes } from '../src/code-steps/first-level.js';
import type { LayerProblem, Scales } from '../src/problem.js';
import { correlatedProblem, rowErrors, scalesOf, total, valuesOf } from './code-step-problems.js';

const reference = createReferenceBackend();
const onnx = await createOnnxBackend({ threads: 1 });
afterAll(() => onnx.dispose());

function nearest({ weight, inFeatures, groupSize, bits }: LayerProblem, { scale, offset }: Scales): Uint8Array {
  return Uint8Array.from(weight, (w, i) => {
    const g = Math.floor(i / inFeatures) * (inFeatures / groupSize) + Math.floor((i % inFeatures) / groupSize);
    return nearestCode(w, scale[g], offset[g], 2 ** bits - 1);
  });
}

async function gptqCodes({ backend, factor, weight, bits, groupSize }: LayerProblem, scales: Scales): Promise<Uint8Array> {
  return (await gptqSolve(backend, factor, weight, { bits, groupSize, ...scales })).codes;
}

const errorOf = (problem: LayerProblem, scales: Scales, codes: Uint8Array): number =>
  total(rowErrors(problem, valuesOf(problem, codes, scales)));

describe('firstLevelCodes', () => {
  it('gives codes of the grid, and a smaller error than rounding to nearest', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(),
        fc.constantFrom(2, 3),
        fc.constantFrom(6, 12),
        fc.boolean(),
        fc.boolean(),
        async (seed, bits, groupSize, alternateSigns, actOrder) => {
          const shape = { outFeatures: 16, inFeatures: 12, bits, groupSize, actOrder };
          const problem = await correlatedProblem(reference, createRng(seed), shape);
          const scales = scalesOf(problem, { shrink: 0.7, alternateSigns });
          const codes = await firstLevelCodes(problem, scales, { relaxationSteps: 20, innerSteps: 20, learningRate: 0.02 });
          for (const code of codes) expect(code).toBeLessThan(2 ** bits);
          // A heuristic: single rows may end above, the sum over a layer does not.
          expect(errorOf(problem, scales, codes)).toBeLessThan(errorOf(problem, scales, nearest(problem, scales)));
        },
      ),
      { numRuns: 15 },
    );
  });

  it('2 bits, narrow grids: below GPTQ, which does not see the box', async () => {
    const shape = { outFeatures: 64, inFeatures: 48, bits: 2, actOrder: true };
    const problem = await correlatedProblem(onnx, createRng(7), shape);
    const scales = scalesOf(problem, { shrink: 0.6 });
    const codes = await firstLevelCodes(problem, scales, { relaxationSteps: 100, innerSteps: 50, learningRate: 0.02 });
    const ratio = errorOf(problem, scales, codes) / errorOf(problem, scales, await gptqCodes(problem, scales));
    expect(ratio).toBeLessThan(0.9); // 0.883 measured
  });

  it.each([
    ['reference', reference],
    ['onnxruntime', onnx],
  ])('%s: with a wide box and many inner steps, the codes are those of GPTQ', async (_, backend) => {
    const shape = { outFeatures: 12, inFeatures: 10, bits: 4, actOrder: true };
    const problem = await correlatedProblem(backend, createRng(8), shape);
    // The range of the weights and half of it again on either side: no box is met.
    const scales = scalesOf(problem, { shrink: 2 });
    const codes = await firstLevelCodes(problem, scales, { relaxationSteps: 0, innerSteps: 300, learningRate: 0.005 });
    const expected = await gptqCodes(problem, scales);
    const equal = codes.reduce((count, code, i) => count + (code === expected[i] ? 1 : 0), 0);
    expect(equal / codes.length).toBeGreaterThan(0.95); // 1 measured; ties may go either way
  });

  it('a layer of several panels: the rows of a layer of their own', async () => {
    const problem = await correlatedProblem(onnx, createRng(9), { outFeatures: 1025, inFeatures: 6, bits: 2 });
    const scales = scalesOf(problem, { shrink: 0.6 });
    const options = { relaxationSteps: 5, innerSteps: 5, learningRate: 0.05 };
    const codes = await firstLevelCodes(problem, scales, options);
    for (const row of [0, 512, 513, 1024]) {
      const alone: LayerProblem = { ...problem, outFeatures: 1, weight: problem.weight.slice(row * 6, (row + 1) * 6) };
      const own = { scale: scales.scale.slice(row, row + 1), offset: scales.offset.slice(row, row + 1) };
      expect(await firstLevelCodes(alone, own, options)).toEqual(codes.slice(row * 6, (row + 1) * 6));
    }
  });

  it('no steps at all: rounding to nearest', async () => {
    const problem = await correlatedProblem(reference, createRng(10), { outFeatures: 8, inFeatures: 12, bits: 3, groupSize: 4 });
    const scales = scalesOf(problem, { shrink: 0.8, alternateSigns: true });
    const codes = await firstLevelCodes(problem, scales, { relaxationSteps: 0, innerSteps: 0, learningRate: 0.01 });
    expect(codes).toEqual(nearest(problem, scales));
  });
});
