// Small layers for the tests of the code steps, and their objective in float64.
import type { Backend, Rng } from '@lowbit/core';
import { fitGrid, gptqFactor } from '@lowbit/quant';
import type { LayerProblem, Scales } from '../src/problem.js';

export interface ProblemShape {
  readonly outFeatures: number;
  readonly inFeatures: number;
  readonly bits: number;
  readonly groupSize?: number;
  /** Share of the inputs' variance that all of them have in common. */
  readonly correlation?: number;
  readonly actOrder?: boolean;
}

/** A layer with normal weights whose inputs share a component; the Hessian is dampened by 1 % and is not divided by the rows. */
export async function correlatedProblem(backend: Backend, rng: Rng, shape: ProblemShape): Promise<LayerProblem> {
  const { outFeatures, inFeatures: n, bits, groupSize = n, correlation = 0.5, actOrder = false } = shape;
  const samples = 4 * n + 16;
  const own = rng.at('own').normal(samples * n);
  const common = rng.at('common').normal(samples);
  const size = rng.at('size').uniform(n);
  const x = own.map((v, i) => (0.5 + size[i % n]) * (Math.sqrt(1 - correlation) * v + Math.sqrt(correlation) * common[Math.floor(i / n)]));
  const hessian = new Float32Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let total = 0;
      for (let s = 0; s < samples; s++) total += x[s * n + i] * x[s * n + j];
      hessian[i * n + j] = total;
      hessian[j * n + i] = total;
    }
  }
  let trace = 0;
  for (let i = 0; i < n; i++) trace += hessian[i * (n + 1)];
  for (let i = 0; i < n; i++) hessian[i * (n + 1)] += (0.01 * trace) / n;
  const weight = rng.at('weight').normal(outFeatures * n);
  const factor = await gptqFactor(backend, hessian, n, { dampening: 0, actOrder });
  return { backend, weight, outFeatures, inFeatures: n, bits, groupSize, zero: 'free', hessian, factor };
}

/** Covering grids, narrowed by `shrink`; every other scale negative if asked for. */
export function scalesOf(problem: LayerProblem, { shrink = 1, alternateSigns = false } = {}): Scales {
  const { weight, outFeatures, inFeatures, bits, groupSize } = problem;
  const grid = fitGrid(weight, [outFeatures, inFeatures], { bits, symmetric: false, scaleDtype: 'float32', groupSize, clip: 'minmax' });
  const scale = grid.scale.map((s) => s * shrink);
  const offset = grid.offset.map((o) => o * shrink);
  if (!alternateSigns) return { scale, offset };
  return {
    scale: scale.map((s, g) => (g % 2 === 0 ? s : -s)),
    offset: offset.map((o, g) => (g % 2 === 0 ? o : o + scale[g] * (2 ** bits - 1))),
  };
}

/** (v − w)H(v − w)ᵀ of every row, in float64. */
export function rowErrors({ weight, outFeatures, inFeatures: n, hessian }: LayerProblem, values: ArrayLike<number>): Float64Array {
  const errors = new Float64Array(outFeatures);
  for (let r = 0; r < outFeatures; r++) {
    const d = Float64Array.from({ length: n }, (_, i) => values[r * n + i] - weight[r * n + i]);
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) errors[r] += d[i] * hessian[i * n + j] * d[j];
  }
  return errors;
}

/** The weights that codes stand for, in float64. */
export function valuesOf({ inFeatures, groupSize }: LayerProblem, codes: Uint8Array, { scale, offset }: Scales): Float64Array {
  return Float64Array.from(codes, (code, i) => {
    const g = Math.floor(i / inFeatures) * (inFeatures / groupSize) + Math.floor((i % inFeatures) / groupSize);
    return scale[g] * code + offset[g];
  });
}

/** Ends of the box of each weight, in float64. */
export function boxOf(problem: LayerProblem, scales: Scales): { low: Float64Array; high: Float64Array } {
  const size = problem.outFeatures * problem.inFeatures;
  const atZero = valuesOf(problem, new Uint8Array(size), scales);
  const atMax = valuesOf(problem, new Uint8Array(size).fill(2 ** problem.bits - 1), scales);
  return { low: atZero.map((v, i) => Math.min(v, atMax[i])), high: atZero.map((v, i) => Math.max(v, atMax[i])) };
}

export function total(values: Float64Array): number {
  return values.reduce((a, b) => a + b, 0);
}
