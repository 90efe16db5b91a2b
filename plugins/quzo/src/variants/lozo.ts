// LOZO: directions of low rank, with one factor that is kept for some steps.
import { all } from '../direction/direction.js';
import { fillNormals, uniformAt } from '../direction/noise.js';
import type { Direction, Part, StreamKey } from '../hooks.js';

export interface LowRankOptions {
  readonly rank: number;
  /** Steps for which the factor on the side of the inputs stays. */
  readonly interval: number;
  readonly isRounded: boolean;
}

/**
 * u = U·Vᵀ/√rank of normal U [out, rank], new in every query, and V [in, rank], new every `interval` steps and shared by queries (LOZO,
 * arXiv 2410.07698, which divides the update by the rank; with √rank in both places E[u uᵀ] = I, and ε means what it means elsewhere).
 * Rounded like other directions are. Tensors that are no larger than the rank on one side take `fallback`.
 */
export function lowRank({ rank, interval, isRounded }: LowRankOptions, fallback: Direction): Direction {
  return (parameter, draws, rounding, scratch, part = all(parameter.size)) => {
    const { name, kind, size, shape, settings } = parameter;
    const rows = shape[0] ?? 1;
    const columns = size / rows;
    if (Math.min(rows, columns) <= rank) return fallback(parameter, draws, rounding, scratch, part);

    const left = scratch.float32(rows * rank);
    fillNormals(draws.key('noise', name), left);
    const right = scratch.float32(rank * columns); // [rank, columns]
    const first = draws.step - ((draws.step - 1) % interval);
    fillNormals(draws.at(first, 0).key('lazy', name), right);
    const product = ({ start, end }: Part): Float32Array => {
      const values = scratch.float32(end - start).fill(0);
      for (let row = Math.floor(start / columns); row * columns < end; row++) {
        const [from, to] = [Math.max(start, row * columns), Math.min(end, (row + 1) * columns)];
        for (let k = 0; k < rank; k++) {
          const factor = left[row * rank + k] / Math.sqrt(rank);
          const shift = k * columns - row * columns;
          for (let i = from; i < to; i++) values[i - start] += factor * right[i + shift];
        }
      }
      return values;
    };
    if (!isRounded) return { values: product(part), factor: 1, secondMoment: 1 };
    const whole = kind === 'codes' ? undefined : product(all(size));
    const perUnit = whole ? (2 ** (settings.perturbBits - 1) - 1) / largestMagnitude(whole) : settings.epsilon;
    const values = whole?.subarray(part.start, part.end) ?? product(part);
    roundInPlace(values, perUnit, draws.key(rounding, name), part.start);
    return { values, factor: 1 / perUnit, secondMoment: 1 + meanFractionVariance(perUnit, rank) / perUnit ** 2 };
  };
}

function largestMagnitude(values: Float32Array): number {
  let largest = 0;
  for (let i = 0; i < values.length; i++) largest = Math.max(largest, Math.abs(values[i]));
  return largest;
}

function roundInPlace(values: Float32Array, perUnit: number, key: StreamKey, start: number): void {
  for (let i = 0; i < values.length; i++) values[i] = Math.floor(perUnit * values[i] + uniformAt(key, start + i));
}

/**
 * E[f(1 − f)] for the fraction f of x = deviation · (a sum of `rank` products of two normal numbers) / √rank, whose characteristic
 * function is (1 + t²/rank)^(−rank/2): by the Fourier series f(1 − f) = 1/6 − Σ cos(2πkx) / (πk)².
 */
function meanFractionVariance(deviation: number, rank: number): number {
  let total = 1 / 6;
  for (let k = 1; ; k++) {
    const term = (1 + (2 * Math.PI * k * deviation) ** 2 / rank) ** (-rank / 2) / (Math.PI * k) ** 2;
    total -= term;
    if (k * term < 1e-9) return total;
  }
}
