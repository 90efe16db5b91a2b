// Directions: drawn, and rounded stochastically to few bits or to whole codes.
import type { Direction, DirectionValues, Parameter, Part, Scratch, StreamKey } from '../hooks.js';
import { fillNormals, fillSigns, wordAt } from './noise.js';
import { fractionVariance, meanFractionVariance } from './second-moment.js';

export interface DirectionOptions {
  readonly distribution: 'rademacher' | 'gaussian';
  /** Whether directions are rounded: to whole codes, or to the bits of the parameter's settings. */
  readonly isRounded: boolean;
}

/** Normal numbers that exist at a time before they are rounded. */
const CHUNK = 2 ** 14;
const TO_UNIT = 2 ** -32;

/**
 * Independent elements of unit variance. Rounded directions are integers times a factor: of codes SR(σu), which is added to them as it is
 * (σ: the parameter's ε); of float elements SR(u/Δ) on the symmetric grid of `perturbBits` bits that the largest |u| of the tensor spans.
 */
export function directionOf({ distribution, isRounded }: DirectionOptions): Direction {
  if (distribution === 'rademacher') return isRounded ? roundedSigns : signs;
  return isRounded ? roundedNormals : normals;
}

const signs: Direction = ({ name, size }, draws, _rounding, scratch, part = all(size)) => ({
  values: drawSigns(draws.key('noise', name), part, scratch),
  factor: 1,
  secondMoment: 1,
});

const normals: Direction = ({ name, size }, draws, _rounding, scratch, { start, end } = all(size)) => {
  const values = scratch.float32(end - start);
  fillNormals(draws.key('noise', name), values, start);
  return { values, factor: 1, secondMoment: 1 };
};

/** Signs lie on the ends of any grid of theirs; only on the lattice of codes are they rounded. */
const roundedSigns: Direction = (parameter, draws, rounding, scratch, part = all(parameter.size)) => {
  if (parameter.kind !== 'codes') return signs(parameter, draws, rounding, scratch, part);
  const { name, settings } = parameter;
  const values = drawSigns(draws.key('noise', name), part, scratch);
  scaleSigns(values, settings.epsilon, draws.key(rounding, name), part.start);
  return onLattice(values, settings.epsilon, fractionVariance(settings.epsilon));
};

const roundedNormals: Direction = (parameter, draws, rounding, scratch, { start, end } = all(parameter.size)) => {
  const { name, kind, size, settings } = parameter;
  const noise = draws.key('noise', name);
  const values = scratch.int8(end - start);
  const chunk = scratch.float32(CHUNK);
  const round = (perUnit: number): void => roundNormals({ values, start, perUnit, noise, rounding: draws.key(rounding, name), chunk });
  if (kind === 'codes') {
    round(settings.epsilon);
    return onLattice(values, settings.epsilon, meanFractionVariance(settings.epsilon));
  }
  const perUnit = (2 ** (settings.perturbBits - 1) - 1) / largestNormal(noise, size, chunk);
  round(perUnit);
  return { values, factor: 1 / perUnit, secondMoment: 1 + meanFractionVariance(perUnit) / perUnit ** 2 };
};

export function all(size: Parameter['size']): Part {
  return { start: 0, end: size };
}

function onLattice(values: Int8Array, sigma: number, variance: number): DirectionValues {
  return { values, factor: 1 / sigma, secondMoment: 1 + variance / sigma ** 2 };
}

function drawSigns(key: StreamKey, { start, end }: Part, scratch: Scratch): Int8Array {
  const values = scratch.int8(end - start);
  fillSigns(key, values, start);
  return values;
}

/** ±1 → ±SR(σ), in place: rounding a magnitude is rounding either sign of it. */
function scaleSigns(values: Int8Array, sigma: number, { low, high }: StreamKey, start: number): void {
  const whole = Math.floor(sigma);
  const fraction = sigma - whole;
  if (fraction === 0) {
    if (whole !== 1) for (let i = 0; i < values.length; i++) values[i] *= whole;
    return;
  }
  for (let i = 0; i < values.length; i++) {
    values[i] *= whole + ((wordAt(low, high, start + i) >>> 0) * TO_UNIT < fraction ? 1 : 0);
  }
}

interface RoundedNormals {
  readonly values: Int8Array;
  /** Which element the first is. */
  readonly start: number;
  readonly perUnit: number;
  readonly noise: StreamKey;
  readonly rounding: StreamKey;
  readonly chunk: Float32Array;
}

/** values[i] = SR(perUnit · normal start + i). */
function roundNormals({ values, start, perUnit, noise, rounding: { low, high }, chunk }: RoundedNormals): void {
  for (let from = 0; from < values.length; from += chunk.length) {
    const size = Math.min(chunk.length, values.length - from);
    fillNormals(noise, chunk, start + from);
    for (let i = 0; i < size; i++) {
      values[from + i] = Math.floor(perUnit * chunk[i] + (wordAt(low, high, start + from + i) >>> 0) * TO_UNIT);
    }
  }
}

/** The largest magnitude among the first `size` normal numbers of a stream. */
function largestNormal(noise: StreamKey, size: number, chunk: Float32Array): number {
  let largest = 0;
  for (let start = 0; start < size; start += chunk.length) {
    fillNormals(noise, chunk, start);
    const end = Math.min(chunk.length, size - start);
    for (let i = 0; i < end; i++) largest = Math.max(largest, Math.abs(chunk[i]));
  }
  return largest;
}
