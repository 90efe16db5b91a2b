// Directions: drawn, and rounded stochastically to few bits or to whole codes.
import type { Direction, DirectionValues, Scratch, StreamKey } from '../hooks.js';
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

const signs: Direction = ({ name, size }, draws, _rounding, scratch) => ({
  values: drawSigns(draws.key('noise', name), size, scratch),
  factor: 1,
  secondMoment: 1,
});

const normals: Direction = ({ name, size }, draws, _rounding, scratch) => {
  const values = scratch.float32(size);
  fillNormals(draws.key('noise', name), values);
  return { values, factor: 1, secondMoment: 1 };
};

/** Signs lie on the ends of any grid of theirs; only on the lattice of codes are they rounded. */
const roundedSigns: Direction = (parameter, draws, rounding, scratch) => {
  if (parameter.kind !== 'codes') return signs(parameter, draws, rounding, scratch);
  const { name, size, settings } = parameter;
  const values = drawSigns(draws.key('noise', name), size, scratch);
  scaleSigns(values, settings.epsilon, draws.key(rounding, name));
  return onLattice(values, settings.epsilon, fractionVariance(settings.epsilon));
};

const roundedNormals: Direction = (parameter, draws, rounding, scratch) => {
  const { name, kind, size, settings } = parameter;
  const noise = draws.key('noise', name);
  const values = scratch.int8(size);
  const round = (perUnit: number): void => roundNormals(values, perUnit, noise, draws.key(rounding, name));
  if (kind === 'codes') {
    round(settings.epsilon);
    return onLattice(values, settings.epsilon, meanFractionVariance(settings.epsilon));
  }
  const perUnit = (2 ** (settings.perturbBits - 1) - 1) / largestNormal(noise, size);
  round(perUnit);
  return { values, factor: 1 / perUnit, secondMoment: 1 + meanFractionVariance(perUnit) / perUnit ** 2 };
};

function onLattice(values: Int8Array, sigma: number, variance: number): DirectionValues {
  return { values, factor: 1 / sigma, secondMoment: 1 + variance / sigma ** 2 };
}

function drawSigns(key: StreamKey, size: number, scratch: Scratch): Int8Array {
  const values = scratch.int8(size);
  fillSigns(key, values);
  return values;
}

/** ±1 → ±SR(σ), in place: rounding a magnitude is rounding either sign of it. */
function scaleSigns(values: Int8Array, sigma: number, { low, high }: StreamKey): void {
  const whole = Math.floor(sigma);
  const fraction = sigma - whole;
  if (fraction === 0) {
    if (whole !== 1) for (let i = 0; i < values.length; i++) values[i] *= whole;
    return;
  }
  for (let i = 0; i < values.length; i++) {
    values[i] *= whole + ((wordAt(low, high, i) >>> 0) * TO_UNIT < fraction ? 1 : 0);
  }
}

/** out[i] = SR(perUnit · normal i). */
function roundNormals(out: Int8Array, perUnit: number, noise: StreamKey, { low, high }: StreamKey): void {
  const chunk = new Float32Array(Math.min(CHUNK, out.length));
  for (let start = 0; start < out.length; start += CHUNK) {
    const size = Math.min(CHUNK, out.length - start);
    fillNormals(noise, chunk, start);
    for (let i = 0; i < size; i++) {
      out[start + i] = Math.floor(perUnit * chunk[i] + (wordAt(low, high, start + i) >>> 0) * TO_UNIT);
    }
  }
}

/** The largest magnitude among the first `size` normal numbers of a stream. */
function largestNormal(noise: StreamKey, size: number): number {
  const chunk = new Float32Array(Math.min(CHUNK, size));
  let largest = 0;
  for (let start = 0; start < size; start += CHUNK) {
    fillNormals(noise, chunk, start);
    const end = Math.min(CHUNK, size - start);
    for (let i = 0; i < end; i++) largest = Math.max(largest, Math.abs(chunk[i]));
  }
  return largest;
}
