// Weights, scales and Hessians at the edge of what numbers hold: the result is finite and no worse than before.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createRng, matmul, tensor } from '@lowbit/core';
import { afterAll, describe, expect, it } from 'vitest';
import { codeStepOf } from '../src/code-steps/select.js';
import { type DecoupleResult, decouple } from '../src/layer.js';
import { sharedHessian } from '../src/shared-hessian.js';
import { rowError, values } from './oracle.js';
import { hessianOf, hessianRows, layerOf, published, rowsOf, weightRows } from './problems.js';

const onnx = await createOnnxBackend({ threads: 1, spin: false });
afterAll(() => onnx.dispose());

describe('numerics', () => {
  const all = codeStepOf({ codeStep: 'pgd+gptq', relaxationSteps: 3, relaxationRate: 0.02, innerSteps: 0, descentSweeps: 1 });
  const isFiniteResult = ({ quantized, errors, loss }: DecoupleResult): boolean =>
    [...quantized.scale, ...quantized.offset, ...errors, loss].every(Number.isFinite) && quantized.scale.every((s) => s !== 0);

  it.each(['free', 'integer', 'symmetric'] as const)('finite and no worse than zeros: degenerate weights, %s', async (zero) => {
    const inputs = 8;
    const rows = [
      new Array<number>(inputs).fill(0),
      new Array<number>(inputs).fill(0.7),
      new Array<number>(inputs).fill(-0.3),
      [0, 0, 0, 0, 1, 2, 3, 4],
      [1e-30, -1e-30, 0, 0, 1e-20, 0, 0, 0],
      [5, 0, 0, 0, 0, 0, 0, -5],
    ];
    const weight = Float32Array.from(rows.flat());
    for (const groupSize of [4, 8]) {
      for (const scaleDtype of ['float16', 'float32'] as const) {
        for (const codeStep of [published.codeStep, all]) {
          const problem = await layerOf({ rows: rows.length, inputs, groupSize, seed: 41, weight, zero });
          const result = await decouple(problem, { ...published, codeStep, scaleDtype, ridge: 1e-6 });
          expect(isFiniteResult(result)).toBe(true);
          const found = rowsOf(problem, result.quantized).map(values);
          expect(found[0].every((value) => Math.abs(value) < 1e-6)).toBe(true);
          if (zero !== 'symmetric') expect(found[1].every((value) => Math.abs(value - 0.7) < 1e-3)).toBe(true);
        }
      }
    }
  });

  it('one row, one input a group, all inputs dead', async () => {
    const one = await layerOf({ rows: 1, inputs: 8, groupSize: 1, seed: 42 });
    expect((await decouple(one, published)).loss).toBeLessThan(1e-10);
    const hessian = Float32Array.from({ length: 64 }, (_, i) => (i % 9 === 0 ? 0.01 : 0));
    const dead = await layerOf({ rows: 2, inputs: 8, groupSize: 4, seed: 42, hessian });
    expect(isFiniteResult(await decouple(dead, published))).toBe(true);
  });

  it('dead inputs change nothing of the others’ errors, and keep near what they were', async () => {
    const problem = await layerOf({ rows: 6, inputs: 16, groupSize: 8, seed: 43, dead: [2, 11] });
    const result = await decouple(problem, published);
    expect(isFiniteResult(result)).toBe(true);
    expect(result.loss).toBeLessThan(result.nearestLoss ?? 0);
  });

  it('one calibration row and next to no dampening: float32 sums of a singular Hessian never make the loss rise', async () => {
    const x = createRng(47).normal(64);
    const rankOne = Float32Array.from({ length: 64 * 64 }, (_, i) => x[Math.floor(i / 64)] * x[i % 64]);
    const gram = tensor(rankOne, [64, 64]);
    const shared = await sharedHessian({ backend: onnx, gram, dampening: 1e-9, factorDampening: 0, actOrder: true, path: 'one row' });
    for (const zero of ['free', 'integer', 'symmetric'] as const) {
      const base = await layerOf({ rows: 24, inputs: 64, groupSize: 64, seed: 47, zero });
      const result = await decouple(
        { ...base, ...shared, backend: onnx },
        { ...published, codeStep: all, scaleDtype: 'float16', ridge: 1e-6 },
      );
      expect(isFiniteResult(result)).toBe(true);
      expect(result.errors.every((error) => error >= 0)).toBe(true);
      result.trace.forEach(({ loss }, i) => {
        if (i > 0) expect(loss).toBeLessThanOrEqual(result.trace[i - 1].loss);
      });
    }
  });

  it('in float32, where eigenvalues of the Hessian are a million apart: no row rises, and errors are what they claim', async () => {
    const [rows, inputs, samples] = [24, 128, 512];
    const rng = createRng(48);
    const [own, common] = [rng.at('own').normal(samples * inputs), rng.at('common').normal(samples)];
    const x = own.map((value, i) => (value + 30 * common[Math.floor(i / inputs)]) * (i % inputs === 17 ? 30 : 1));
    const h = tensor(x, [samples, inputs]);
    const [gram] = await onnx.evaluate([matmul(h, h, { transposeA: true })]);
    const shared = await sharedHessian({ backend: onnx, gram, dampening: 0.01, factorDampening: 0, actOrder: true, path: 'outlier' });
    for (const zero of ['free', 'integer'] as const) {
      const base = await layerOf({ rows, inputs, groupSize: 32, seed: 48, zero });
      const problem = { ...base, ...shared, backend: onnx };
      let before: number[] | undefined;
      for (const iterations of [1, 2, 3, 5]) {
        const { quantized, errors } = await decouple(problem, { ...published, iterations, search: 'coarse-to-fine', ridge: 1e-6 });
        const after = rowsOf(problem, quantized).map((row, r) => rowError(hessianRows(problem), weightRows(problem)[r], values(row)));
        after.forEach((error, r) => {
          expect(Math.abs(errors[r] / error - 1)).toBeLessThan(2e-3);
          if (before) expect(error).toBeLessThanOrEqual(before[r] * (1 + 2e-5));
        });
        before = after;
      }
    }
  });

  it('keeps float32 where the layer is beyond float16, and says so', async () => {
    const base = await layerOf({ rows: 4, inputs: 8, groupSize: 4, seed: 44 });
    const problem = { ...base, weight: base.weight.map((w) => w * 3e5) };
    const result = await decouple(problem, { ...published, scaleDtype: 'float16' });
    expect(result.scaleDtype).toBe('float32');
    expect(isFiniteResult(result)).toBe(true);
    const small = await decouple(base, { ...published, scaleDtype: 'float16' });
    expect(small.scaleDtype).toBe('float16');
    const exact = await decouple(base, published);
    expect(small.loss / exact.loss).toBeCloseTo(1, 1);
  });

  it('a scale that float16 rounds to 0 takes the smallest there is', async () => {
    const base = await layerOf({ rows: 2, inputs: 8, groupSize: 4, seed: 45 });
    const result = await decouple({ ...base, weight: base.weight.map((w) => w * 1e-9) }, { ...published, scaleDtype: 'float16' });
    expect(isFiniteResult(result)).toBe(true);
    expect(Math.min(...result.quantized.scale)).toBe(2 ** -24);
  });

  it('depends on the inputs only through their Hessian', async () => {
    const problem = await layerOf({ rows: 4, inputs: 16, groupSize: 8, seed: 46 });
    const again = { ...problem, hessian: hessianOf(16, 46) };
    expect(again.hessian).not.toBe(problem.hessian);
    expect(await decouple(again, published)).toEqual(await decouple(problem, published));
  });
});
