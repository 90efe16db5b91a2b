// Triangular systems with many right-hand sides: recursive, small diagonal blocks on the host, the rest as products on a backend.
import { type Backend, LowbitError, matmul, sub, tensor } from '@lowbit/core';
import { type TransientCompute, transientCompute } from './compute.js';
import { cut, splitPoint } from './submatrix.js';

export interface TriangularOptions {
  /** Solve Lᵀ X = B instead of L X = B. */
  readonly transpose?: boolean;
  /** Rows solved at a time on the host; speed only. */
  readonly blockSize?: number;
}

/**
 * X with L X = B (or Lᵀ X = B): L lower triangular [n, n], B [n, columns] → [n, columns]. Above the diagonal nothing is read.
 * @throws TRIANGULAR_SINGULAR for a zero or non-finite diagonal entry.
 */
export async function solveTriangular(
  backend: Backend,
  lower: Float32Array,
  n: number,
  rhs: Float32Array,
  columns: number,
  { transpose = false, blockSize = 64 }: TriangularOptions = {},
): Promise<Float32Array> {
  if (lower.length !== n * n || rhs.length !== n * columns) {
    throw new LowbitError(
      'SHAPE_DATA',
      `solveTriangular: ${lower.length} and ${rhs.length} values do not fill L [${n}, ${n}] and B [${n}, ${columns}]`,
    );
  }
  for (let i = 0; i < n; i++) {
    const pivot = lower[i * (n + 1)];
    if (pivot === 0 || !Number.isFinite(pivot)) {
      throw new LowbitError(
        'TRIANGULAR_SINGULAR',
        `solveTriangular: diagonal entry ${i} is ${pivot}; the system has no unique solution, dampen the matrix first`,
      );
    }
  }
  const x = Float32Array.from(rhs);
  await solve({ compute: transientCompute(backend), lower, n, x, columns, transpose, blockSize }, 0, n);
  return x;
}

interface System {
  readonly compute: TransientCompute;
  readonly lower: Float32Array;
  readonly n: number;
  /** B, replaced by X. */
  readonly x: Float32Array;
  readonly columns: number;
  readonly transpose: boolean;
  readonly blockSize: number;
}

/** Solves the half that depends on nothing, takes its contribution from the other half, solves that. */
async function solve(system: System, start: number, size: number): Promise<void> {
  const { compute, lower, n, x, columns, transpose, blockSize } = system;
  if (size <= blockSize) {
    (transpose ? substituteBackward : substituteForward)(system, start, size);
    return;
  }
  const first = splitPoint(size, blockSize);
  const rest = size - first;
  const middle = start + first;
  const [known, open] = transpose
    ? [
        [middle, rest],
        [start, first],
      ]
    : [
        [start, first],
        [middle, rest],
      ];
  await solve(system, known[0], known[1]);
  const rows = ([from, count]: number[]): Float32Array => x.subarray(from * columns, (from + count) * columns);
  const coupling = matmul(tensor(cut(lower, n, middle, start, rest, first), [rest, first]), tensor(rows(known), [known[1], columns]), {
    transposeA: transpose,
  });
  await compute([sub(tensor(rows(open), [open[1], columns]), coupling)], (updated) => x.set(updated, open[0] * columns));
  await solve(system, open[0], open[1]);
}

function substituteForward({ lower, n, x, columns }: System, start: number, size: number): void {
  const row = new Float64Array(columns);
  for (let i = start; i < start + size; i++) {
    row.set(x.subarray(i * columns, (i + 1) * columns));
    for (let j = start; j < i; j++) subtractRow(row, lower[i * n + j], x, j * columns);
    writeScaled(x, i * columns, row, 1 / lower[i * n + i]);
  }
}

function substituteBackward({ lower, n, x, columns }: System, start: number, size: number): void {
  const row = new Float64Array(columns);
  for (let i = start + size - 1; i >= start; i--) {
    row.set(x.subarray(i * columns, (i + 1) * columns));
    for (let j = i + 1; j < start + size; j++) subtractRow(row, lower[j * n + i], x, j * columns);
    writeScaled(x, i * columns, row, 1 / lower[i * n + i]);
  }
}

function subtractRow(row: Float64Array, factor: number, x: Float32Array, offset: number): void {
  for (let c = 0; c < row.length; c++) row[c] -= factor * x[offset + c];
}

function writeScaled(x: Float32Array, offset: number, row: Float64Array, factor: number): void {
  for (let c = 0; c < row.length; c++) x[offset + c] = row[c] * factor;
}
