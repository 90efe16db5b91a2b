// Integer coordinate descent: never up, and at its end no single code can be changed for the better.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng } from '@lowbit/core';
import { gptqSolve } from '@lowbit/quant';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { descendCodes } from '../src/code-steps/coordinate-descent.js';
import type { LayerProblem, Quantized } from '../src/problem.js';
import { correlatedProblem, rowErrors, scalesOf, total, valuesOf } from './code-step-problems.js';

const reference = createReferenceBackend();
const onnx = await createOnnxBackend({ threads: 1 });
afterAll(() => onnx.dispose());

/** Random codes on covering grids, some of negative scale. */
function randomStart(problem: LayerProblem, seed: number): Quantized {
  const scales = scalesOf(problem, { shrink: 0.7, alternateSigns: true });
  const codes = createRng(seed).integers(problem.weight.length, 2 ** problem.bits);
  return { ...scales, codes: Uint8Array.from(codes) };
}

const errorsOf = (problem: LayerProblem, quantized: Quantized): Float64Array =>
  rowErrors(problem, valuesOf(problem, quantized.codes, quantized));

/** The largest share of a row's error that changing one code would take away, in float64. */
function largestGain(problem: LayerProblem, quantized: Quantized): number {
  const { bits, inFeatures: n, weight, hessian } = problem;
  const values = valuesOf(problem, quantized.codes, quantized);
  const candidates = Array.from({ length: 2 ** bits }, (_, code) => valuesOf(problem, new Uint8Array(values.length).fill(code), quantized));
  const errors = rowErrors(problem, values);
  let largest = 0;
  for (const [at, value] of values.entries()) {
    const row = Math.floor(at / n);
    const input = at % n;
    let gradient = 0;
    for (let j = 0; j < n; j++) gradient += (values[row * n + j] - weight[row * n + j]) * hessian[input * n + j];
    for (const candidate of candidates) {
      const delta = candidate[at] - value;
      largest = Math.max(largest, (-delta * (2 * gradient + delta * hessian[input * (n + 1)])) / errors[row]);
    }
  }
  return largest;
}

describe('descendCodes', () => {
  it.each([
    ['reference', reference],
    ['onnxruntime', onnx],
  ])('%s: no sweep raises the error of a row, and the end is optimal in every single code', async (_, backend) => {
    await fc.assert(
      fc.asyncProperty(fc.nat(), fc.constantFrom(2, 3, 4, 8), fc.constantFrom(5, 20), async (seed, bits, groupSize) => {
        const problem = await correlatedProblem(backend, createRng(seed), { outFeatures: 7, inFeatures: 20, bits, groupSize });
        let current = randomStart(problem, seed);
        let errors = errorsOf(problem, current);
        for (let sweep = 0; sweep < 4; sweep++) {
          current = { ...current, codes: await descendCodes(problem, current, 1) };
          const next = errorsOf(problem, current);
          for (const [row, error] of next.entries()) expect(error).toBeLessThanOrEqual(errors[row]);
          errors = next;
        }
        const final = { ...current, codes: await descendCodes(problem, current, 500) };
        for (const code of final.codes) expect(code).toBeLessThan(2 ** bits);
        expect(largestGain(problem, final)).toBeLessThan(1e-4);
        expect(await descendCodes(problem, final, 1)).toEqual(final.codes);
      }),
      { numRuns: 15 },
    );
  });

  it('several blocks and panels: as a plain cyclic descent in float64', async () => {
    const problem = await correlatedProblem(onnx, createRng(1), { outFeatures: 1025, inFeatures: 136, bits: 2, groupSize: 34 });
    const start = randomStart(problem, 2);
    const found = await descendCodes(problem, start, 2);
    for (const row of [0, 512, 513, 1024]) {
      const expected = plainDescent(problem, start, row, 2);
      const own = found.subarray(row * 136, (row + 1) * 136);
      const equal = own.reduce((count, code, i) => count + (code === expected[i] ? 1 : 0), 0);
      // One change on a tie may lead elsewhere from there on.
      expect(equal / 136).toBeGreaterThan(0.9);
    }
  });

  it('lowers the error of GPTQ at 2 bits', async () => {
    const problem = await correlatedProblem(onnx, createRng(3), { outFeatures: 32, inFeatures: 64, bits: 2, actOrder: true });
    const scales = scalesOf(problem, { shrink: 0.6 });
    const { codes } = await gptqSolve(onnx, problem.factor, problem.weight, { bits: 2, groupSize: 64, ...scales });
    const descended = await descendCodes(problem, { ...scales, codes }, 3);
    const ratio = total(errorsOf(problem, { ...scales, codes: descended })) / total(errorsOf(problem, { ...scales, codes }));
    expect(ratio).toBeLessThan(0.98); // 0.965 measured
  });

  it('0 sweeps: a copy', async () => {
    const problem = await correlatedProblem(reference, createRng(4), { outFeatures: 2, inFeatures: 5, bits: 2 });
    const start = randomStart(problem, 5);
    const codes = await descendCodes(problem, start, 0);
    expect(codes).toEqual(start.codes);
    expect(codes).not.toBe(start.codes);
  });
});

/** The row's codes after cyclic sweeps that try every code of every input. */
function plainDescent(problem: LayerProblem, start: Quantized, row: number, sweeps: number): Uint8Array {
  const { inFeatures: n, groupSize, bits, weight, hessian } = problem;
  const codes = start.codes.slice(row * n, (row + 1) * n);
  const valueOf = (input: number, code: number): number => {
    const g = row * (n / groupSize) + Math.floor(input / groupSize);
    return start.scale[g] * code + start.offset[g];
  };
  const d = Float64Array.from(codes, (code, i) => valueOf(i, code) - weight[row * n + i]);
  for (let sweep = 0; sweep < sweeps; sweep++) {
    for (let i = 0; i < n; i++) {
      let others = 0;
      for (let j = 0; j < n; j++) if (j !== i) others += d[j] * hessian[i * n + j];
      let least = Infinity;
      for (let code = 0; code < 2 ** bits; code++) {
        const own = valueOf(i, code) - weight[row * n + i];
        const error = 2 * own * others + own * own * hessian[i * (n + 1)];
        if (error >= least) continue;
        least = error;
        codes[i] = code;
        d[i] = own;
      }
    }
  }
  return codes;
}
