// Float64 loops for the tests of low-rank corrections: the error at the outputs, and the papers' formulas as they are written.
import { createRng } from '@lowbit/core';
import { symmetricEigen } from '@lowbit/linalg';
import type { LowRankFactors } from '../src/index.js';

export type Rows = number[][];

export function toRows(data: ArrayLike<number>, columns: number): Rows {
  return Array.from({ length: data.length / columns }, (_, i) => Array.from({ length: columns }, (__, j) => data[i * columns + j]));
}

export function multiply(a: Rows, b: Rows): Rows {
  return a.map((row) => b[0].map((_, j) => row.reduce((total, value, k) => total + value * b[k][j], 0)));
}

export function transpose(a: Rows): Rows {
  return a[0].map((_, j) => a.map((row) => row[j]));
}

export function subtract(a: Rows, b: Rows): Rows {
  return a.map((row, i) => row.map((value, j) => value - b[i][j]));
}

export function scaleColumns(a: Rows, factors: ArrayLike<number>): Rows {
  return a.map((row) => row.map((value, j) => value * factors[j]));
}

/** tr(D G Dᵀ). */
export function gramError(d: Rows, g: Rows): number {
  return multiply(d, g).reduce((total, row, i) => total + row.reduce((sum, value, j) => sum + value * d[i][j], 0), 0);
}

export function norm(a: Rows): number {
  return Math.sqrt(a.flat().reduce((total, value) => total + value * value, 0));
}

/** ‖a − b‖_F / ‖b‖_F. */
export function distance(a: Rows, b: Rows): number {
  return norm(subtract(a, b)) / norm(b);
}

/** Eigenvalues, falling, and unit eigenvectors as columns. */
export function eigen(a: Rows): { values: number[]; vectors: Rows } {
  const n = a.length;
  const { values, vectors } = symmetricEigen(Float64Array.from(a.flat()), n);
  return { values: [...values], vectors: transpose(toRows(vectors, n)) };
}

/** SVD_r(M) through the right singular vectors: M V_r V_rᵀ. */
export function truncated(m: Rows, rank: number): Rows {
  const right = eigen(multiply(transpose(m), m)).vectors.map((row) => row.slice(0, rank));
  return multiply(multiply(m, right), transpose(right));
}

/** QERA-exact as it is written: S = G^½ symmetric, SVD_r(E S) S⁻¹. */
export function qeraExact(e: Rows, g: Rows, rank: number): Rows {
  const { values, vectors } = eigen(g);
  const power = (exponent: number): Rows =>
    multiply(
      scaleColumns(
        vectors,
        values.map((value) => value ** exponent),
      ),
      transpose(vectors),
    );
  return multiply(truncated(multiply(e, power(0.5)), rank), power(-0.5));
}

/** EoRA as it is written: G = Q Λ Qᵀ, SVD_r(E Q Λ^½) Λ^−½ Qᵀ. */
export function eora(e: Rows, g: Rows, rank: number): Rows {
  const { values, vectors } = eigen(g);
  const roots = values.map(Math.sqrt);
  const inside = truncated(scaleColumns(multiply(e, vectors), roots), rank);
  return multiply(
    scaleColumns(
      inside,
      roots.map((value) => 1 / value),
    ),
    transpose(vectors),
  );
}

/** γ · up · down in float64. */
export function deltaOf({ up, down }: LowRankFactors, n: number, scaling = 1): Rows {
  const rank = down.length / n;
  return multiply(toRows(up, rank), toRows(down, n)).map((row) => row.map((value) => value * scaling));
}

export function random(rows: number, columns: number, seed: number): Float32Array {
  return createRng(seed >>> 0).normal(rows * columns);
}

/** Inputs [rows, n] that are correlated, one of them large; those listed are always 0. */
export function correlatedInputs(rows: number, n: number, seed: number, dead: readonly number[] = []): Float32Array {
  const mix = toRows(random(n, n, seed + 1), n).map((row, i) => row.map((value, j) => value / Math.sqrt(n) + (i === j ? 1 : 0)));
  const inputs = multiply(toRows(random(rows, n, seed), n), mix);
  return Float32Array.from(inputs.flatMap((row) => row.map((value, j) => (dead.includes(j) ? 0 : j === 1 ? 8 * value : value))));
}

/** XᵀX. */
export function gramOf(x: ArrayLike<number>, n: number): Rows {
  const rows = toRows(x, n);
  return multiply(transpose(rows), rows);
}
