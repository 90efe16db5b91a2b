// Outlier directions: the subspace that stays in full precision, and how much of the stream's energy it holds.
import { type Backend, LowbitError, type Rng } from '@lowbit/core';
import { qr, symmetricEigen, topEigenvectors } from '@lowbit/linalg';
import type { ResidualGram } from './gram.js';

/** 'svd': the directions of most energy; the others are for comparison. */
export type BasisKind = 'svd' | 'channels' | 'random' | 'bottom';

export interface BasisRequest {
  readonly backend: Backend;
  readonly kind: BasisKind;
  readonly width: number;
  /** 1 to width. */
  readonly rank: number;
  /** Of the stream; needed by all kinds but 'random'. */
  readonly gram: ResidualGram | undefined;
  readonly rng: Rng;
}

/** How the eigenvectors of most energy were found. */
export interface Convergence {
  readonly iterations: number;
  /** Largest ‖Gp − θp‖ / θ. */
  readonly residual: number;
  /** Whether it is within the tolerance. */
  readonly converged: boolean;
}

export interface OutlierBasis {
  /** Orthonormal up to float32 rounding, [width, rank]. */
  readonly columns: Float32Array;
  /** Of kind 'svd', which is iterative. */
  readonly convergence?: Convergence;
}

const TOLERANCE = 1e-4;
const MAX_ITERATIONS = 200;

/** All eigenvectors are computed on the host, at 60 n³ flops. */
const LARGEST_FULL_PROBLEM = 1024;

/** @throws BASIS_SIZE for 'bottom' of a wide stream. */
export function checkBasis(kind: BasisKind, width: number): void {
  if (kind !== 'bottom' || width <= LARGEST_FULL_PROBLEM) return;
  throw new LowbitError(
    'BASIS_SIZE',
    `quad: basis 'bottom' decomposes the whole second moment, and a width of ${width} is beyond ${LARGEST_FULL_PROBLEM}; use it on small models, for comparison`,
  );
}

/**
 * Directions of a kind. 'svd': the largest eigenvectors of the second moment, that is the right singular
 * vectors of the stream; 'channels': the coordinates of most energy, as QUIK keeps them; 'random': uniformly distributed; 'bottom': the
 * directions of least energy.
 * @throws as `checkBasis`; the errors of `topEigenvectors`.
 */
export async function outlierBasis({ backend, kind, width, rank, gram, rng }: BasisRequest): Promise<OutlierBasis> {
  checkBasis(kind, width);
  if (kind === 'random') return { columns: (await qr(backend, rng.normal(width * rank), [width, rank])).q };
  const { matrix } = gram as ResidualGram;
  if (kind === 'channels') return { columns: loudestChannels(matrix, width, rank) };
  if (kind === 'bottom') return { columns: quietestDirections(matrix, width, rank) };
  const options = { rng, tolerance: TOLERANCE, maxIterations: MAX_ITERATIONS };
  const { vectors, iterations, residual } = await topEigenvectors(backend, Float32Array.from(matrix), width, rank, options);
  // It also ends where its block spans everything, and is exact then.
  return { columns: vectors, convergence: { iterations, residual, converged: residual <= TOLERANCE || iterations < MAX_ITERATIONS } };
}

function loudestChannels(matrix: Float64Array, width: number, rank: number): Float32Array {
  const energy = (channel: number): number => matrix[channel * (width + 1)];
  const order = Array.from({ length: width }, (_, channel) => channel).sort((a, b) => energy(b) - energy(a) || a - b);
  const columns = new Float32Array(width * rank);
  for (let j = 0; j < rank; j++) columns[order[j] * rank + j] = 1;
  return columns;
}

function quietestDirections(matrix: Float64Array, width: number, rank: number): Float32Array {
  const { vectors } = symmetricEigen(matrix, width);
  return Float32Array.from({ length: width * rank }, (_, at) => vectors[(width - 1 - (at % rank)) * width + Math.floor(at / rank)]);
}

/**
 * Shares of the stream's energy within the first 1, 2, … directions, [rank]: Σ_{i≤j} pᵢᵀ G pᵢ / tr G for orthonormal columns pᵢ of `basis`
 * [width, rank]. That of the directions left is 1 less it.
 */
export function energyCaptured({ matrix, width }: ResidualGram, basis: Float64Array, rank: number): Float64Array {
  let trace = 0;
  for (let i = 0; i < width; i++) trace += matrix[i * (width + 1)];
  const energies = new Float64Array(rank);
  const image = new Float64Array(rank);
  for (let i = 0; i < width; i++) {
    image.fill(0);
    for (let k = 0; k < width; k++) {
      const g = matrix[i * width + k];
      for (let j = 0; j < rank; j++) image[j] += g * basis[k * rank + j];
    }
    for (let j = 0; j < rank; j++) energies[j] += basis[i * rank + j] * image[j];
  }
  let total = 0;
  return energies.map((energy) => Math.min(1, (total += trace > 0 ? Math.max(0, energy) / trace : 0)));
}
