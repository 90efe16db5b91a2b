// Scales and offsets as they are stored, and the grid that covers every weight: where the alternation begins.
import { roundHalfEven, roundToFloat16 } from '@lowbit/core';
import type { ScaleDtype } from '@lowbit/quant';
import type { LayerProblem, Quantized, Scales } from './problem.js';

/** Nobody has to fear dividing by a scale: one that rounds to 0 takes the smallest there is. */
const smallestScale: Readonly<Record<ScaleDtype, number>> = { float16: 2 ** -24, float32: 2 ** -126 };

/** A number as it is stored; ±Infinity when it does not fit. */
export function storedValue(value: number, dtype: ScaleDtype): number {
  return dtype === 'float16' ? roundToFloat16(value) : Math.fround(value);
}

/** A scale as it is stored: rounded, never 0; ±Infinity when it does not fit. */
export function storedScale(scale: number, dtype: ScaleDtype): number {
  const rounded = storedValue(scale, dtype);
  const smallest = smallestScale[dtype];
  return Math.abs(rounded) < smallest ? (rounded < 0 ? -smallest : smallest) : rounded;
}

/** The code that stands for 0 where the offset is bound to the scale: offset = −scale · code. */
export function zeroCode({ bits, zero }: Pick<LayerProblem, 'bits' | 'zero'>, scale: number, offset: number): number {
  return zero === 'symmetric' ? 2 ** (bits - 1) : Math.min(2 ** bits - 1, Math.max(0, roundHalfEven(-offset / scale)));
}

/** The offset of a scale and the code that stands for 0, as formats with zero points compute it. */
export function boundOffset(scale: number, zero: number): number {
  return -Math.fround(scale * zero);
}

/**
 * The grid that covers every weight of a group and 0: s = (hi − lo) / (2^b − 1) and offset lo when it is free, the nearest zero point
 * when it is an integer. A symmetric grid puts the weight of largest magnitude on the code that has no mirror image. Values beyond
 * `dtype` come out infinite.
 */
export function coveringScales(problem: LayerProblem, dtype: ScaleDtype): Scales {
  const { weight, groupSize, bits, zero } = problem;
  const maxCode = 2 ** bits - 1;
  const scale = new Float32Array(weight.length / groupSize);
  const offset = new Float32Array(scale.length);
  for (let g = 0; g < scale.length; g++) {
    let low = 0;
    let high = 0;
    for (let i = g * groupSize; i < (g + 1) * groupSize; i++) {
      low = Math.min(low, weight[i]);
      high = Math.max(high, weight[i]);
    }
    const step = zero === 'symmetric' ? -(high > -low ? high : low) / 2 ** (bits - 1) : (high - low) / maxCode;
    scale[g] = storedScale(step, dtype);
    offset[g] = zero === 'free' ? storedValue(low, dtype) : boundOffset(scale[g], zeroCode(problem, scale[g], low));
  }
  return { scale, offset };
}

/** Whether every scale and offset is a number that its type holds. */
export function areFinite({ scale, offset }: Scales): boolean {
  return scale.every(Number.isFinite) && offset.every(Number.isFinite);
}

/** A grid whose range is `shrink[row]` times as wide, both ends alike; stored. */
export function shrunkScales(problem: LayerProblem, base: Scales, shrink: Float32Array, dtype: ScaleDtype): Scales {
  const groups = base.scale.length / problem.outFeatures;
  const scale = new Float32Array(base.scale.length);
  const offset = new Float32Array(base.scale.length);
  for (let g = 0; g < scale.length; g++) {
    const factor = shrink[Math.floor(g / groups)];
    scale[g] = storedScale(factor * base.scale[g], dtype);
    offset[g] =
      problem.zero === 'free'
        ? storedValue(factor * base.offset[g], dtype)
        : boundOffset(scale[g], zeroCode(problem, base.scale[g], base.offset[g]));
  }
  return { scale, offset };
}

/**
 * A given start as it is stored, with positive scales: the codes of a group with a negative scale are mirrored, q → 2^b − 1 − q. The codes
 * of a symmetric grid have no mirror image and stay.
 */
export function canonical(problem: LayerProblem, { codes, scale, offset }: Quantized, dtype: ScaleDtype): Quantized {
  const { bits, groupSize, zero } = problem;
  const maxCode = 2 ** bits - 1;
  const result = { codes: codes.slice(), scale: scale.slice(), offset: offset.slice() };
  scale.forEach((s, g) => {
    const isMirrored = s < 0 && zero !== 'symmetric';
    const stored = storedScale(isMirrored ? -s : s, dtype);
    result.scale[g] = stored;
    if (zero === 'free') {
      result.offset[g] = storedValue(isMirrored ? offset[g] + s * maxCode : offset[g], dtype);
    } else {
      const code = zeroCode(problem, s, offset[g]);
      result.offset[g] = boundOffset(stored, isMirrored ? maxCode - code : code);
    }
    if (!isMirrored) return;
    for (let i = g * groupSize; i < (g + 1) * groupSize; i++) result.codes[i] = maxCode - codes[i];
  });
  return result;
}
