// Cholesky factorization with damping, and the inverse factor of GPTQ: recursive, diagonal blocks in float64 on the host, everything
// else as a few large products on a backend.
import { type Backend, LowbitError, matmul, neg, sub, tensor } from '@lowbit/core';
import { type TransientCompute, transientCompute } from './compute.js';
import { choleskyInPlace, invertLowerInPlace } from './small-cholesky.js';
import { cut, paste, pasteLower, splitPoint } from './submatrix.js';

export interface CholeskyOptions {
  /** λ added to the diagonal, relative to its mean; 0 by default. Raised tenfold until the factorization succeeds. */
  readonly dampening?: number;
  /** The factorization fails beyond this relative λ; 100 by default. */
  readonly maxDampening?: number;
  /** Order of the diagonal blocks factorized on the host; speed only. */
  readonly blockSize?: number;
}

export interface CholeskyResult {
  /** L with L Lᵀ = A + λI, [n, n], zero above the diagonal. */
  readonly lower: Float32Array;
  /** The relative λ that was used: the one asked for, or more. */
  readonly dampening: number;
}

export interface InverseFactorOptions extends CholeskyOptions {
  /** Rows and columns to factor, in this order; all in natural order by default. */
  readonly order?: ArrayLike<number>;
}

export interface InverseFactorResult {
  /** U with UᵀU = (A + λI)⁻¹, upper triangular, [m, m] for an order of m. */
  readonly upper: Float32Array;
  readonly dampening: number;
}

const DEFAULT_BLOCK = 64;
/** First λ tried when none was asked for and the matrix turns out singular: a little above float32's resolution. */
const FIRST_DAMPENING = 1e-6;
/** A pivot below float32's resolution of the diagonal entry it is left of is rounding noise. */
const PIVOT_FLOOR = 2 ** -24;

/**
 * Cholesky factor of a symmetric positive definite matrix [n, n], of which the lower triangle is read.
 * @throws CHOLESKY_INPUT for a diagonal that is negative or not finite, CHOLESKY_FAILED when no dampening up to the maximum helps.
 */
export async function cholesky(
  backend: Backend,
  matrix: Float32Array | Float64Array,
  n: number,
  options: CholeskyOptions = {},
): Promise<CholeskyResult> {
  checkSquare('cholesky', matrix, n);
  const inverse = new Float32Array(n * n);
  const { buffer, dampening } = await escalate('cholesky', matrix, n, undefined, options, (lower, floor) => {
    inverse.fill(0);
    return factorize(
      { compute: transientCompute(backend), lower, inverse, n, block: options.blockSize ?? DEFAULT_BLOCK, floor },
      0,
      n,
      false,
    );
  });
  return { lower: buffer, dampening };
}

/**
 * The upper factor U of A⁻¹ = UᵀU that GPTQ sweeps with (arXiv 2210.17323, §3.3). With P the reversal and L the Cholesky factor of
 * PAP, U = P L⁻¹ P: one factorization and one triangular inverse, and no inverse of A.
 * @throws as `cholesky`.
 */
export async function inverseUpperFactor(
  backend: Backend,
  matrix: Float32Array | Float64Array,
  n: number,
  options: InverseFactorOptions = {},
): Promise<InverseFactorResult> {
  checkSquare('inverseUpperFactor', matrix, n);
  const order = Int32Array.from(options.order ?? { length: n }, (value, i) => value ?? i).reverse();
  const { buffer, dampening } = await escalate('inverseUpperFactor', matrix, n, order, options, (lower, floor) =>
    factorize(
      { compute: transientCompute(backend), lower, inverse: lower, n: order.length, block: options.blockSize ?? DEFAULT_BLOCK, floor },
      0,
      order.length,
      true,
    ),
  );
  // Row-major, so reversing rows and columns at once is reversing the elements.
  return { upper: buffer.reverse(), dampening };
}

interface Factorization {
  readonly compute: TransientCompute;
  /** A in the lower triangle, replaced by L; zero above the diagonal. */
  readonly lower: Float32Array;
  /** Receives L⁻¹. The same array as `lower` when only L⁻¹ is wanted: no part of L is read after its inverse is known. */
  readonly inverse: Float32Array;
  readonly n: number;
  readonly block: number;
  /** Smallest acceptable pivot of each row. */
  readonly floor: Float64Array;
}

/**
 * [A₁₁ ·; A₂₁ A₂₂]: L₁₁ and X₁₁ = L₁₁⁻¹ by recursion, L₂₁ = A₂₁X₁₁ᵀ, L₂₂ from A₂₂ − L₂₁L₂₁ᵀ, X₂₁ = −X₂₂L₂₁X₁₁.
 * The last product is left out where nobody needs the inverse. False at a pivot that is too small.
 */
async function factorize(f: Factorization, start: number, size: number, needsInverse: boolean): Promise<boolean> {
  if (size <= f.block) return factorizeOnHost(f, start, size);
  const first = splitPoint(size, f.block);
  const rest = size - first;
  const middle = start + first;
  if (!(await factorize(f, start, first, true))) return false;

  const x11 = tensor(cut(f.inverse, f.n, start, start, first, first), [first, first]);
  const a21 = tensor(cut(f.lower, f.n, middle, start, rest, first), [rest, first]);
  const a22 = tensor(cut(f.lower, f.n, middle, middle, rest, rest), [rest, rest]);
  const l21 = matmul(a21, x11, { transposeB: true });
  await f.compute([l21, sub(a22, matmul(l21, l21, { transposeB: true }))], (panel, trailing) => {
    paste(f.lower, f.n, middle, start, rest, first, panel);
    pasteLower(f.lower, f.n, middle, rest, trailing);
  });
  if (!(await factorize(f, middle, rest, needsInverse))) return false;

  if (needsInverse) {
    const x22 = tensor(cut(f.inverse, f.n, middle, middle, rest, rest), [rest, rest]);
    const panel = tensor(cut(f.lower, f.n, middle, start, rest, first), [rest, first]);
    await f.compute([neg(matmul(matmul(x22, panel), x11))], (x21) => paste(f.inverse, f.n, middle, start, rest, first, x21));
  }
  return true;
}

function factorizeOnHost({ lower, inverse, n, floor }: Factorization, start: number, size: number): boolean {
  const block = new Float64Array(size * size);
  const writeTo = (target: Float32Array): void => {
    for (let i = 0; i < size; i++) {
      for (let j = 0; j <= i; j++) target[(start + i) * n + start + j] = block[i * size + j];
    }
  };
  for (let i = 0; i < size; i++) {
    for (let j = 0; j <= i; j++) block[i * size + j] = lower[(start + i) * n + start + j];
  }
  if (!choleskyInPlace(block, size, 0, floor.subarray(start, start + size))) return false;
  writeTo(lower);
  invertLowerInPlace(block, size);
  writeTo(inverse);
  return true;
}

/** Tries the factorization on damped copies of the matrix until one succeeds. */
async function escalate(
  where: string,
  matrix: Float32Array | Float64Array,
  n: number,
  order: Int32Array | undefined,
  { dampening = 0, maxDampening = 100 }: CholeskyOptions,
  attempt: (lower: Float32Array, floor: Float64Array) => Promise<boolean>,
): Promise<{ buffer: Float32Array; dampening: number }> {
  const size = order ? order.length : n;
  const indexOf = (i: number): number => (order ? order[i] : i);
  const diagonal = Float64Array.from({ length: size }, (_, i) => matrix[indexOf(i) * (n + 1)]);
  const mean = diagonal.reduce((total, value) => total + value, 0) / size;
  const bad = diagonal.findIndex((value) => !(value >= 0 && value < Infinity));
  if (bad >= 0) {
    throw new LowbitError(
      'CHOLESKY_INPUT',
      `${where}: diagonal entry ${indexOf(bad)} is ${diagonal[bad]}; the matrix must be positive semidefinite and finite`,
    );
  }
  if (!(dampening >= 0)) throw new LowbitError('CHOLESKY_INPUT', `${where}: dampening is ${dampening}; give a number that is not negative`);

  const buffer = new Float32Array(size * size);
  for (let relative = dampening; ; relative = Math.max(relative * 10, FIRST_DAMPENING)) {
    // A matrix of zeros has no scale of its own; λ is then absolute.
    const lambda = relative * (mean || 1);
    for (let i = 0; i < size; i++) {
      const row = indexOf(i) * n;
      if (order) for (let j = 0; j <= i; j++) buffer[i * size + j] = matrix[row + order[j]];
      else buffer.set(matrix.subarray(row, row + i + 1), i * size);
      buffer.fill(0, i * size + i + 1, (i + 1) * size);
      buffer[i * size + i] += lambda;
    }
    const floor = diagonal.map((value) => (value + lambda) * PIVOT_FLOOR);
    if (await attempt(buffer, floor)) return { buffer, dampening: relative };
    if (relative >= maxDampening) {
      throw new LowbitError(
        'CHOLESKY_FAILED',
        `${where}: the ${size}×${size} matrix is not positive definite even with ${relative} of its mean diagonal added; check it for NaN and asymmetry`,
      );
    }
  }
}

function checkSquare(where: string, matrix: ArrayLike<number>, n: number): void {
  if (matrix.length !== n * n) throw new LowbitError('SHAPE_DATA', `${where}: ${matrix.length} values do not fill a matrix [${n}, ${n}]`);
}
