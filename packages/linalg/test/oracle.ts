// Textbook float64 linear algebra, written for clarity: what the tests compare with.
import { createRng } from '@lowbit/core';

export type Rows = number[][];

export function toRows(data: ArrayLike<number>, rows: number, columns: number): Rows {
  return Array.from({ length: rows }, (_, i) => Array.from({ length: columns }, (__, j) => data[i * columns + j]));
}

export function flat(matrix: Rows): Float32Array {
  return Float32Array.from(matrix.flat());
}

export function transposeRows(a: Rows): Rows {
  return a[0].map((_, j) => a.map((row) => row[j]));
}

export function multiply(a: Rows, b: Rows): Rows {
  return a.map((row) => b[0].map((_, j) => row.reduce((total, value, k) => total + value * b[k][j], 0)));
}

export function identity(n: number): Rows {
  return Array.from({ length: n }, (_, i) => Array.from({ length: n }, (__, j) => (i === j ? 1 : 0)));
}

/** max |a − b| / max |b|. */
export function relativeDifference(a: Rows, b: Rows): number {
  const scale = Math.max(...b.flat().map(Math.abs), 1e-300);
  return Math.max(...a.flatMap((row, i) => row.map((value, j) => Math.abs(value - b[i][j])))) / scale;
}

/** Solves A X = B by Gauss-Jordan elimination with row pivoting. */
export function solve(a: Rows, b: Rows): Rows {
  const work = a.map((row, i) => [...row, ...b[i]]);
  const n = a.length;
  for (let i = 0; i < n; i++) {
    let best = i;
    for (let k = i; k < n; k++) if (Math.abs(work[k][i]) > Math.abs(work[best][i])) best = k;
    [work[i], work[best]] = [work[best], work[i]];
    const pivot = work[i][i];
    work[i] = work[i].map((value) => value / pivot);
    for (let k = 0; k < n; k++) {
      if (k === i) continue;
      const factor = work[k][i];
      work[k] = work[k].map((value, j) => value - factor * work[i][j]);
    }
  }
  return work.map((row) => row.slice(n));
}

export function randomRows(rows: number, columns: number, seed: number): Rows {
  return toRows(createRng(seed >>> 0).normal(rows * columns), rows, columns);
}

/** XᵀX / samples of correlated normals: a well-conditioned Gram matrix, rounded to float32. */
export function randomGram(n: number, samples: number, seed: number): Rows {
  const x = multiply(randomRows(samples, n, seed), randomRows(n, n, seed + 1));
  return multiply(transposeRows(x), x).map((row) => row.map((value) => Math.fround(value / samples)));
}
