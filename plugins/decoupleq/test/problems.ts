// Small random layers, and the result of a layer row by row.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng } from '@lowbit/core';
import { gptqFactor } from '@lowbit/quant';
import { codeStepOf } from '../src/code-steps/select.js';
import type { DecoupleSettings } from '../src/layer.js';
import type { LayerProblem, Quantized, ZeroKind } from '../src/problem.js';
import { type Matrix, type OracleRow, toMatrix } from './oracle.js';

export const backend = createReferenceBackend();

export interface LayerShape {
  readonly rows: number;
  readonly inputs: number;
  readonly groupSize: number;
  readonly seed: number;
  readonly bits?: number;
  readonly zero?: ZeroKind;
  readonly weight?: Float32Array;
  /** Inputs that are 0 throughout the calibration. */
  readonly dead?: readonly number[];
  readonly hessian?: Float32Array;
}

/** XᵀX / T of correlated inputs, 1 % of the mean diagonal added. */
export function hessianOf(inputs: number, seed: number, dead: readonly number[] = []): Float32Array {
  const rng = createRng(seed);
  const samples = 6 * inputs + 8;
  const own = rng.at('own').normal(samples * inputs);
  const shared = rng.at('shared').normal(samples);
  const x = toMatrix(own, samples, inputs).map((row, t) =>
    row.map((value, i) => (dead.includes(i) ? 0 : (value + 0.8 * shared[t]) * (1 + (i % 3)))),
  );
  const h = new Float32Array(inputs * inputs);
  for (let i = 0; i < inputs; i++) {
    for (let j = 0; j < inputs; j++) h[i * inputs + j] = x.reduce((total, row) => total + row[i] * row[j], 0) / samples;
  }
  let trace = 0;
  for (let i = 0; i < inputs; i++) trace += h[i * (inputs + 1)];
  for (let i = 0; i < inputs; i++) h[i * (inputs + 1)] += (0.01 * trace) / inputs;
  return h;
}

export async function layerOf({ rows, inputs, groupSize, seed, bits = 2, zero = 'free', ...given }: LayerShape): Promise<LayerProblem> {
  const hessian = given.hessian ?? hessianOf(inputs, seed, given.dead);
  const weight =
    given.weight ??
    createRng(seed)
      .at('weight')
      .normal(rows * inputs);
  const factor = await gptqFactor(backend, hessian, inputs, { dampening: 0, actOrder: true });
  return { backend, weight, outFeatures: rows, inFeatures: inputs, bits, groupSize, zero, hessian, factor };
}

/** The published alternation, stored exactly. */
export const published: DecoupleSettings = {
  iterations: 4,
  search: 'full',
  ridge: 0,
  scaleDtype: 'float32',
  codeStep: codeStepOf({ codeStep: 'gptq', relaxationSteps: 0, relaxationRate: 0.02, innerSteps: 0, descentSweeps: 0 }),
};

export function hessianRows({ hessian, inFeatures }: LayerProblem): Matrix {
  return toMatrix(hessian, inFeatures, inFeatures);
}

export function weightRows({ weight, outFeatures, inFeatures }: LayerProblem): number[][] {
  return toMatrix(weight, outFeatures, inFeatures);
}

export function rowsOf({ outFeatures, inFeatures, groupSize }: LayerProblem, { codes, scale, offset }: Quantized): OracleRow[] {
  const groups = inFeatures / groupSize;
  const [q, s, z] = [toMatrix(codes, outFeatures, inFeatures), toMatrix(scale, outFeatures, groups), toMatrix(offset, outFeatures, groups)];
  return q.map((line, r) => ({ codes: line, scale: s[r], offset: z[r] }));
}
