// The largest eigenpairs of a positive semidefinite matrix, by block subspace iteration; never a full decomposition.
import { type Backend, LowbitError, matmul, mul, type Rng, square, sub, sum, type Tensor, tensor } from '@lowbit/core';
import { type TransientCompute, transientCompute } from './compute.js';
import { symmetricEigen } from './jacobi.js';
import { qr } from './qr.js';

export interface TopEigenvectorsOptions {
  /** Draws the starting block; equal addresses give equal results. */
  readonly rng: Rng;
  /** Vectors iterated beyond those asked for; max(8, half of them) by default. More converge faster. */
  readonly oversampling?: number;
  /** Converged when ‖Av − θv‖ ≤ tolerance·θ for every pair, or at float32's resolution of A; 1e-4 by default. */
  readonly tolerance?: number;
  readonly maxIterations?: number;
}

export interface TopEigenvectors {
  /** The `count` largest eigenvalues, descending. */
  readonly values: Float64Array;
  /** Their unit eigenvectors as columns, [n, count]. */
  readonly vectors: Float32Array;
  readonly iterations: number;
  /** Largest ‖Av − θv‖ / θ of the pairs; above the tolerance when `maxIterations` ended it. */
  readonly residual: number;
}

/** What float32 products resolve of a residual, relative to the largest eigenvalue. */
const RESOLUTION = 2.5e-7;
/** A polynomial filter may favour the largest eigenvalue over the smallest kept one by this much before rounding drowns the latter. */
const MAX_GROWTH = 1e4;
const MAX_DEGREE = 8;

/**
 * Subspace iteration with Rayleigh-Ritz projection; between projections the block goes through a Chebyshev polynomial of A that is
 * small on [0, smallest Ritz value] (Zhou, Saad, Tiago & Chelikowsky, 2006, with the degree held where float32 bears it).
 * Of a Gram matrix summed in float32 tiny negative eigenvalues are expected and harmless.
 * @throws EIGEN_COUNT for a count outside [1, n], EIGEN_INDEFINITE for a matrix with substantial negative eigenvalues.
 */
export async function topEigenvectors(
  backend: Backend,
  matrix: Float32Array,
  n: number,
  count: number,
  { rng, oversampling = Math.max(8, Math.ceil(count / 2)), tolerance = 1e-4, maxIterations = 200 }: TopEigenvectorsOptions,
): Promise<TopEigenvectors> {
  if (matrix.length !== n * n)
    throw new LowbitError('SHAPE_DATA', `topEigenvectors: ${matrix.length} values do not fill a matrix [${n}, ${n}]`);
  if (!Number.isInteger(count) || count < 1 || count > n) {
    throw new LowbitError(
      'EIGEN_COUNT',
      `topEigenvectors: ${count} eigenvectors of a matrix of order ${n} were asked for; ask for 1 to ${n}`,
    );
  }
  const width = Math.min(n, count + oversampling);
  const compute = transientCompute(backend);
  const a = tensor(matrix, [n, n]);
  let block = rng.normal(n * width);
  for (let iteration = 1; ; iteration++) {
    const { q } = await qr(backend, block, [n, width]);
    const ritz = await project(compute, a, q, n, width);
    const residual = checkRitz(ritz, count);
    // A full-width block spans everything: the projection is the answer.
    if (residual <= tolerance || iteration >= maxIterations || width === n) {
      const vectors = new Float32Array(n * count);
      for (let i = 0; i < n; i++) vectors.set(ritz.vectors.subarray(i * width, i * width + count), i * count);
      return { values: ritz.values.slice(0, count), vectors, iterations: iteration, residual };
    }
    block = await filter(compute, a, ritz, n, width);
  }
}

interface Ritz {
  /** θ, descending, [width]. */
  readonly values: Float64Array;
  /** V = QY, [n, width]. */
  readonly vectors: Float32Array;
  /** AV, [n, width]. */
  readonly images: Float32Array;
  /** ‖Av − θv‖, [width]. */
  readonly residuals: Float64Array;
}

/** Rayleigh-Ritz: eigenpairs of A within the span of q's orthonormal columns. */
async function project(compute: TransientCompute, a: Tensor, q: Float32Array, n: number, width: number): Promise<Ritz> {
  const basis = tensor(q, [n, width]);
  const product = matmul(a, basis);
  const projected = new Float64Array(width * width);
  let image = new Float32Array(0);
  await compute([product, matmul(basis, product, { transposeA: true })], (aq, qaq) => {
    image = aq.slice();
    for (let i = 0; i < width; i++) {
      for (let j = 0; j < width; j++) projected[i * width + j] = (qaq[i * width + j] + qaq[j * width + i]) / 2;
    }
  });
  const eigen = symmetricEigen(projected, width);
  // Rows of eigen.vectors are the columns of Y.
  const y = tensor(Float32Array.from(eigen.vectors), [width, width]);
  const vectors = matmul(basis, y, { transposeB: true });
  const images = matmul(tensor(image, [n, width]), y, { transposeB: true });
  const theta = tensor(Float32Array.from(eigen.values), [1, width]);
  let result: Ritz | undefined;
  await compute([vectors, images, sum(square(sub(images, mul(vectors, theta))), [0])], (v, av, squares) => {
    result = { values: eigen.values, vectors: v.slice(), images: av.slice(), residuals: Float64Array.from(squares, Math.sqrt) };
  });
  return result as Ritz;
}

/** The largest relative residual of the first `count` pairs, 0 for those at the resolution of float32. */
function checkRitz({ values, residuals }: Ritz, count: number): number {
  const scale = Math.max(Math.abs(values[0]), Math.abs(values[values.length - 1]));
  if (values[values.length - 1] < -1e-3 * scale) {
    throw new LowbitError(
      'EIGEN_INDEFINITE',
      `topEigenvectors: the matrix has an eigenvalue of about ${values[values.length - 1]} beside ${values[0]}; it must be positive semidefinite, as a Gram matrix is`,
    );
  }
  let worst = 0;
  for (let j = 0; j < count; j++) {
    if (residuals[j] > RESOLUTION * scale) worst = Math.max(worst, residuals[j] / Math.max(values[j], RESOLUTION * scale));
  }
  return worst;
}

/**
 * p(A)V with p the Chebyshev polynomial of [0, θ_width], scaled so that p(θ₁) = 1: T_{j+1}(t) = 2t·T_j(t) − T_{j−1}(t) with
 * t = (A − c)/c, every term divided by T_j(t₁).
 */
async function filter(
  compute: TransientCompute,
  a: Tensor,
  { values, vectors, images }: Ritz,
  n: number,
  width: number,
): Promise<Float32Array> {
  const half = Math.max(values[width - 1] / 2, values[0] * RESOLUTION);
  const peak = values[0] / half - 1;
  if (!(peak > 1)) return images;
  const degree = Math.min(MAX_DEGREE, Math.max(1, Math.floor(Math.acosh(MAX_GROWTH) / Math.acosh(peak))));
  const center = tensor(half);
  let sigma = 1 / peak;
  let previous = tensor(vectors, [n, width]);
  let current = mul(sub(tensor(images, [n, width]), mul(previous, center)), tensor(sigma / half));
  for (let j = 1; j < degree; j++) {
    const next = 1 / (2 * peak - sigma);
    const shifted = sub(matmul(a, current), mul(current, center));
    const advanced = sub(mul(shifted, tensor((2 * next) / half)), mul(previous, tensor(sigma * next)));
    previous = current;
    current = advanced;
    sigma = next;
  }
  let filtered = new Float32Array(0);
  await compute([current], (block) => {
    filtered = block.slice();
  });
  return filtered;
}
