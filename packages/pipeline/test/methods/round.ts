// quantizeLinear, twice: rounding to nearest without data, and a scale search in the norm of the Gram matrix.
import { defineMethod, gram, type Linear, LowbitError, readFloats, requireDense, roundHalfEven, tensor } from '@lowbit/core';
import { z } from 'zod';
import { AffineLinear } from './linears.js';

const grid = z.strictObject({ bits: z.int().min(2).max(8).default(4), groupSize: z.int().positive().default(16) });

/** Codes of scale = shrink · absmax / (2^(bits−1) − 1) for each group; symmetric. */
function roundWeight(weight: Float32Array, groupSize: number, bits: number, shrink: (row: number) => number, inFeatures: number) {
  const limit = 2 ** (bits - 1) - 1;
  const scale = new Float32Array(weight.length / groupSize);
  const codes = new Int8Array(weight.length);
  for (let g = 0; g < scale.length; g++) {
    const values = weight.subarray(g * groupSize, (g + 1) * groupSize);
    const peak = values.reduce((most, w) => Math.max(most, Math.abs(w)), 0);
    scale[g] = peak === 0 ? 1 : (shrink(Math.floor((g * groupSize) / inFeatures)) * peak) / limit;
    values.forEach((w, i) => {
      codes[g * groupSize + i] = Math.max(-limit - 1, Math.min(limit, roundHalfEven(w / scale[g])));
    });
  }
  return { codes, scale };
}

function affine(linear: Linear, path: string, { codes, scale }: ReturnType<typeof roundWeight>, bits: number): AffineLinear {
  const { outFeatures, inFeatures, bias } = requireDense(linear, path);
  const groups = scale.length / outFeatures;
  const parts = {
    codes: tensor(codes, [outFeatures, inFeatures]),
    scale: tensor(scale, [outFeatures, groups]),
    offset: tensor(new Float32Array(scale.length), [outFeatures, groups]),
    bias,
  };
  return new AffineLinear(parts, bits);
}

function checkGroups({ path, inFeatures }: { path: string; inFeatures: number }, { groupSize }: { groupSize: number }): void {
  if (inFeatures % groupSize !== 0)
    throw new LowbitError('GROUP_SIZE', `${path}: ${inFeatures} inputs do not divide into groups of ${groupSize}`);
}

export const nearest = defineMethod({
  name: 'test-nearest',
  version: 1,
  options: grid,
  check: checkGroups,
  async quantizeLinear(linear, { path, options: { bits, groupSize } }) {
    const weight = await readFloats(requireDense(linear, path).weight);
    return affine(
      linear,
      path,
      roundWeight(weight, groupSize, bits, () => 1, linear.inFeatures),
      bits,
    );
  },
});

/** Per row the shrink factor with the least (ŵ−w) G (ŵ−w)ᵀ. */
export const searched = defineMethod({
  name: 'test-searched',
  version: 1,
  options: grid,
  statistics: { hessian: gram },
  check: checkGroups,
  async quantizeLinear(linear, { path, stats, options: { bits, groupSize } }) {
    const { outFeatures, inFeatures } = linear;
    const weight = await readFloats(requireDense(linear, path).weight);
    const hessian = await readFloats(stats['hessian']);
    const best = new Float64Array(outFeatures).fill(Number.POSITIVE_INFINITY);
    const chosen = new Float64Array(outFeatures).fill(1);
    for (const factor of [1, 0.9, 0.8, 0.7, 0.6, 0.5]) {
      const { codes, scale } = roundWeight(weight, groupSize, bits, () => factor, inFeatures);
      const error = Float64Array.from(weight, (w, i) => codes[i] * scale[Math.floor(i / groupSize)] - w);
      for (let row = 0; row < outFeatures; row++) {
        const loss = quadratic(error.subarray(row * inFeatures, (row + 1) * inFeatures), hessian);
        if (loss < best[row]) [best[row], chosen[row]] = [loss, factor];
      }
    }
    return affine(
      linear,
      path,
      roundWeight(weight, groupSize, bits, (row) => chosen[row], inFeatures),
      bits,
    );
  },
});

/** e H eᵀ. */
function quadratic(e: Float64Array, h: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < e.length; i++) for (let j = 0; j < e.length; j++) total += e[i] * h[i * e.length + j] * e[j];
  return total;
}
