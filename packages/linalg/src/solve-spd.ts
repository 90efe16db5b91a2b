// Many small symmetric positive definite systems at once, on the host in float64.
import { LowbitError } from '@lowbit/core';
import { choleskyInPlace } from './small-cholesky.js';

export interface SpdSystems {
  /** [count, size, size]; the lower triangles are read. */
  readonly matrices: Float64Array;
  /** [count, size] */
  readonly rhs: Float64Array;
  readonly size: number;
  /** λ relative to the mean diagonal of each matrix; 0 by default. A singular system raises its own until it can be solved. */
  readonly ridge?: number;
  /** [count, size], zeros by default. The ridge pulls towards it, so that θᵀAθ − 2bᵀθ never ends above its value at the centre. */
  readonly center?: Float64Array;
}

export interface SpdSolutions {
  /** θ of min θᵀAθ − 2bᵀθ + λ‖θ − center‖², that is (A + λI)θ = b + λ·center; [count, size]. */
  readonly solution: Float64Array;
  /** The relative λ each system was solved with, [count]. */
  readonly ridge: Float64Array;
}

const FIRST_RIDGE = 1e-12;
const MAX_RIDGE = 1e4;
/** A pivot below float64's resolution of its diagonal entry, with room for the sums it came from, is rounding noise. */
const PIVOT_FLOOR = 2 ** -46;

/**
 * Solves the systems by Cholesky factorization, each with as much ridge as it needs.
 * @throws SHAPE_DATA when the arrays do not fit each other, SPD_FAILED for a system that is not positive semidefinite or not finite.
 */
export function solveSpd({ matrices, rhs, size, ridge = 0, center }: SpdSystems): SpdSolutions {
  const count = rhs.length / size;
  if (!Number.isInteger(count) || matrices.length !== rhs.length * size || (center && center.length !== rhs.length)) {
    throw new LowbitError(
      'SHAPE_DATA',
      `solveSpd: ${matrices.length} matrix, ${rhs.length} right-hand side and ${center?.length ?? 0} center values are not systems of size ${size}`,
    );
  }
  const solution = new Float64Array(rhs.length);
  const used = new Float64Array(count);
  const factor = new Float64Array(size * size);
  for (let system = 0; system < count; system++) {
    const matrix = matrices.subarray(system * size * size, (system + 1) * size * size);
    const range = [system * size, (system + 1) * size] as const;
    const { relative, lambda } = factorize(matrix, size, ridge, factor, system);
    used[system] = relative;
    const x = solution.subarray(...range);
    const middle = center?.subarray(...range);
    for (let i = 0; i < size; i++) x[i] = rhs[range[0] + i] + (middle ? lambda * middle[i] : 0);
    substitute(factor, size, x);
  }
  return { solution, ridge: used };
}

/** Factors matrix + λI into `factor`, with λ raised a hundredfold until the pivots are positive. */
function factorize(
  matrix: Float64Array,
  size: number,
  ridge: number,
  factor: Float64Array,
  system: number,
): { relative: number; lambda: number } {
  let trace = 0;
  for (let i = 0; i < size; i++) trace += matrix[i * (size + 1)];
  const scale = trace / size || 1;
  const floor = new Float64Array(size);
  for (let relative = ridge; relative <= MAX_RIDGE; relative = Math.max(relative * 100, FIRST_RIDGE)) {
    const lambda = relative * scale;
    factor.set(matrix);
    for (let i = 0; i < size; i++) {
      factor[i * (size + 1)] += lambda;
      floor[i] = factor[i * (size + 1)] * PIVOT_FLOOR;
    }
    if (choleskyInPlace(factor, size, 0, floor)) return { relative, lambda };
  }
  throw new LowbitError(
    'SPD_FAILED',
    `solveSpd: system ${system} of size ${size} is not positive semidefinite or not finite; check how its matrix was summed`,
  );
}

/** x ← L⁻ᵀ L⁻¹ x. */
function substitute(lower: Float64Array, size: number, x: Float64Array): void {
  for (let i = 0; i < size; i++) {
    let total = x[i];
    for (let j = 0; j < i; j++) total -= lower[i * size + j] * x[j];
    x[i] = total / lower[i * size + i];
  }
  for (let i = size - 1; i >= 0; i--) {
    x[i] /= lower[i * size + i];
    for (let j = 0; j < i; j++) x[j] -= lower[i * size + j] * x[i];
  }
}
