// How a step is taken: codes by whole numbers, float elements as it is.
import { roundHalfEven } from '@lowbit/core';
import { wordAt } from '../direction/noise.js';
import type { Applied, Update, Updater } from '../hooks.js';
import type { QuzoOptions } from '../options.js';

type UpdaterOptions = Pick<QuzoOptions, 'rounding' | 'carryDecay' | 'carry' | 'weightDecay'>;

/** Codes by the rounding of the options; scales, which keep their sign, without decay; adapters and dense weights with it. */
export function updaterOf({ rounding, carryDecay, carry, weightDecay }: UpdaterOptions): Updater {
  const carried = carry === '16-bit' ? withShortCarry : withCarry;
  const onCodes: Updater =
    rounding === 'error-feedback' ? (update) => carried(update, carryDecay) : rounding === 'sr' ? stochastically : toNearest;
  return (update) => {
    const { kind } = update.parameter;
    return kind === 'codes' ? onCodes(update) : kind === 'scales' ? scaleStep(update) : floatStep(update, weightDecay);
  };
}

/**
 * wanted = γ·carry − η·ĝ; the nearest whole number of it is applied, and the rest carried: applied + carry' = wanted, exactly, and
 * |carry'| ≤ 1/2. What leads beyond the grid is cut, and at most 1/2 of it carried (error feedback as in quantized evolution strategies).
 */
function withCarry({ parameter: { maxCode }, values, gradient, learningRate, slots }: Update, decay: number): Applied {
  const carry = slots.float32('carry');
  let [changed, clamped] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    const wanted = Math.fround(decay * carry[i] - learningRate * gradient[i]);
    if (wanted >= -0.5 && wanted <= 0.5) {
      carry[i] = wanted;
      continue;
    }
    const from = values[i];
    const aim = from + roundHalfEven(wanted);
    const to = Math.min(maxCode, Math.max(0, aim));
    values[i] = to;
    if (to !== from) changed++;
    if (to === aim) carry[i] = wanted - (to - from);
    else {
      carry[i] = Math.min(0.5, Math.max(-0.5, wanted - (to - from)));
      clamped++;
    }
  }
  return { changed, clamped };
}

/**
 * What such a step makes of a carry, by the log alone: of codes that the step does not lead beyond the grid, to the bit, as the rest is then
 * the same wherever a code stood. A step that was cut at an end counts as if it had arrived, which only one longer than the grid cannot have.
 */
export function carryOn(carry: Float32Array, { gradient, learningRate, maxCode, decay }: CarriedStep): void {
  for (let i = 0; i < carry.length; i++) {
    const wanted = Math.fround(decay * carry[i] - learningRate * gradient[i]);
    if (wanted >= -0.5 && wanted <= 0.5) carry[i] = wanted;
    else if (Math.abs(wanted) > maxCode + 0.5) carry[i] = 0.5 * Math.sign(wanted);
    else carry[i] = wanted - roundHalfEven(wanted);
  }
}

export interface CarriedStep {
  /** ĝ of the step. */
  readonly gradient: Float32Array;
  /** η of the step. */
  readonly learningRate: number;
  readonly maxCode: number;
  readonly decay: number;
}

/** What a carry of 16 bits counts: 2^−15 codes. Half a code either way is a quarter of its range. */
const UNITS = 2 ** 15;
const HALF = UNITS / 2;

/**
 * The same with a carry in whole units of 2^−15 codes: wanted = γ·carry − η·ĝ to the nearest unit, half to even, and applied + carry' =
 * wanted, exactly. Steps of 2^−16 codes and less, which the other carry adds up, never arrive.
 */
function withShortCarry({ parameter: { maxCode }, values, gradient, learningRate, slots }: Update, decay: number): Applied {
  const carry = slots.int16('carry');
  const unitsPerGradient = UNITS * learningRate;
  let [changed, clamped] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    const wanted = roundHalfEven(decay * carry[i] - unitsPerGradient * gradient[i]);
    if (wanted >= -HALF && wanted <= HALF) {
      carry[i] = wanted;
      continue;
    }
    const from = values[i];
    const aim = from + roundHalfEven(wanted / UNITS);
    const to = Math.min(maxCode, Math.max(0, aim));
    values[i] = to;
    if (to !== from) changed++;
    if (to !== aim) clamped++;
    carry[i] = Math.min(HALF, Math.max(-HALF, wanted - (to - from) * UNITS));
  }
  return { changed, clamped };
}

/** A step of δ codes moves by ⌊δ⌋ or ⌊δ⌋ + 1, by δ on average. */
function stochastically({ parameter: { name, maxCode }, values, gradient, learningRate, draws }: Update): Applied {
  const { low, high } = draws.key('update', name);
  let [changed, clamped] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    const step = Math.floor((wordAt(low, high, i) >>> 0) * 2 ** -32 - learningRate * gradient[i]);
    if (step === 0) continue;
    const aim = values[i] + step;
    const to = Math.min(maxCode, Math.max(0, aim));
    if (to !== aim) clamped++;
    if (to !== values[i]) changed++;
    values[i] = to;
  }
  return { changed, clamped };
}

/** Steps of half a code and less never arrive. */
function toNearest({ parameter: { maxCode }, values, gradient, learningRate }: Update): Applied {
  let [changed, clamped] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    const wanted = -learningRate * gradient[i];
    if (wanted >= -0.5 && wanted <= 0.5) continue;
    const aim = values[i] + roundHalfEven(wanted);
    const to = Math.min(maxCode, Math.max(0, aim));
    if (to !== aim) clamped++;
    if (to !== values[i]) changed++;
    values[i] = to;
  }
  return { changed, clamped };
}

/** s ← max(s − η·ĝ, 0) (QZO); a negative scale stays at or below 0. */
function scaleStep({ values, gradient, learningRate }: Update): Applied {
  let [changed, clamped] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    const from = values[i];
    const isNegative = from < 0 || Object.is(from, -0);
    const aim = from - learningRate * gradient[i];
    const crosses = isNegative ? aim > 0 : aim < 0;
    values[i] = crosses ? (isNegative ? -0 : 0) : aim;
    if (crosses) clamped++;
    if (values[i] !== from) changed++;
  }
  return { changed, clamped };
}

/** θ ← θ − η·(ĝ + decay·θ) */
function floatStep({ values, gradient, learningRate }: Update, decay: number): Applied {
  let changed = 0;
  for (let i = 0; i < values.length; i++) {
    const from = values[i];
    values[i] = from - learningRate * (gradient[i] + decay * from);
    if (values[i] !== from) changed++;
  }
  return { changed, clamped: 0 };
}
