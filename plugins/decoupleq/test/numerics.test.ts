// Weights, scales and Hessians at the edge of what numbers hold: the result is finite and no worse than before.
import { describe, expect, it } from 'vitest';
import { codeStepOf } from '../src/code-steps/select.js';
import { type DecoupleResult, decouple } from '../src/layer.js';
import { values } from './oracle.js';
import { hessianOf, layerOf, published, rowsOf } from './problems.js';

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
