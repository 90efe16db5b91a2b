// The largest singular triplets of a matrix, by randomized subspace iteration.
import { type Backend, LowbitError, matmul, type Rng, tensor } from '@lowbit/core';
import { transientCompute } from './compute.js';
import { orthonormalizeRows } from './householder.js';
import { symmetricEigen } from './jacobi.js';
import { qr } from './qr.js';

export interface TruncatedSvdOptions {
  /** Draws the starting block; equal addresses give equal results. */
  readonly rng: Rng;
  /** Vectors iterated beyond the rank; 10 by default. */
  readonly oversampling?: number;
  /** Passes over AᵀA; 4 by default. The error beyond the best rank-r approximation falls as (σ_{rank+oversampling+1}/σ_rank)^(2·passes). */
  readonly iterations?: number;
}

export interface TruncatedSvd {
  /** Left singular vectors as columns, [rows, rank]. */
  readonly u: Float32Array;
  /** Singular values, descending, [rank]. */
  readonly values: Float64Array;
  /** Right singular vectors as columns, [columns, rank]; A ≈ U diag(values) Vᵀ. */
  readonly v: Float32Array;
}

/**
 * Rank-r singular value decomposition of A [rows, columns] (Halko, Martinsson & Tropp, 2011, algorithm 4.4). Exact up to float32 when
 * rank + oversampling reaches the smaller side.
 * @throws SVD_RANK for a rank outside [1, min(rows, columns)].
 */
export async function truncatedSvd(
  backend: Backend,
  matrix: Float32Array,
  [rows, columns]: readonly [number, number],
  rank: number,
  { rng, oversampling = 10, iterations = 4 }: TruncatedSvdOptions,
): Promise<TruncatedSvd> {
  const smaller = Math.min(rows, columns);
  if (matrix.length !== rows * columns)
    throw new LowbitError('SHAPE_DATA', `truncatedSvd: ${matrix.length} values do not fill a matrix [${rows}, ${columns}]`);
  if (!Number.isInteger(rank) || rank < 1 || rank > smaller) {
    throw new LowbitError(
      'SVD_RANK',
      `truncatedSvd: rank ${rank} of a matrix [${rows}, ${columns}] was asked for; ask for 1 to ${smaller}`,
    );
  }
  const width = Math.min(smaller, rank + oversampling);
  const compute = transientCompute(backend);
  const a = tensor(matrix, [rows, columns]);
  const product = async (block: Float32Array, transposeA: boolean): Promise<Float32Array> => {
    let result = new Float32Array(0);
    await compute([matmul(a, tensor(block, [block.length / width, width]), { transposeA })], (y) => {
      result = y.slice();
    });
    return result;
  };

  let right = rng.normal(columns * width);
  let left = right;
  let r: Float64Array = new Float64Array(0);
  for (let pass = 0; pass < Math.max(1, iterations); pass++) {
    ({ q: left } = await qr(backend, await product(right, false), [rows, width]));
    ({ q: right, r } = await qr(backend, await product(left, true), [columns, width]));
  }
  const { values, inner, outer } = decomposeSmall(r, width);
  // AᵀQ = right·R and R = outer·diag·innerᵀ, so A ≈ Q QᵀA = (Q inner) diag (right outer)ᵀ.
  const results: Float32Array[] = [];
  await compute(
    [
      matmul(tensor(left, [rows, width]), tensor(inner, [width, width])),
      matmul(tensor(right, [columns, width]), tensor(outer, [width, width])),
    ],
    (...vectors) => results.push(...vectors.map((x) => firstColumns(x, width, rank))),
  );
  return { u: results[0], values: values.slice(0, rank), v: results[1] };
}

/** R = outer·diag(values)·innerᵀ of a small [n, n], from the eigenvectors of RᵀR: float64 holds the squares of float32 data. */
function decomposeSmall(r: Float64Array, n: number): { values: Float64Array; inner: Float32Array; outer: Float32Array } {
  const square = new Float64Array(n * n);
  for (let k = 0; k < n; k++) {
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) square[i * n + j] += r[k * n + i] * r[k * n + j];
    }
  }
  const { vectors } = symmetricEigen(square, n);
  // Row i: R·inner_i = value_i·outer_i. Orthonormalizing completes the directions of vanishing values.
  const images = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      for (let k = 0; k < n; k++) images[i * n + j] += r[j * n + k] * vectors[i * n + k];
    }
  }
  const triangle = orthonormalizeRows(images, n, n);
  return {
    values: Float64Array.from({ length: n }, (_, i) => triangle[i * (n + 1)]),
    inner: transposed(vectors, n),
    outer: transposed(images, n),
  };
}

function transposed(x: Float64Array, n: number): Float32Array {
  return Float32Array.from(x, (_, at) => x[(at % n) * n + Math.floor(at / n)]);
}

function firstColumns(x: Float32Array, width: number, count: number): Float32Array {
  return Float32Array.from({ length: (x.length / width) * count }, (_, at) => x[Math.floor(at / count) * width + (at % count)]);
}
