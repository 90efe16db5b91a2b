// Float64 loops over rows, for figures that tests compute on their own.
import { type Backend, type Linear, readFloats } from '@lowbit/core';
import { LowRankLinear } from '@lowbit/quant';

export type Rows = number[][];

export function toRows(data: ArrayLike<number>, columns: number): Rows {
  return Array.from({ length: data.length / columns }, (_, i) => Array.from({ length: columns }, (__, j) => data[i * columns + j]));
}

export function multiply(a: Rows, b: Rows): Rows {
  return a.map((row) => b[0].map((_, j) => row.reduce((total, value, k) => total + value * b[k][j], 0)));
}

export function subtract(a: Rows, b: Rows): Rows {
  return a.map((row, i) => row.map((value, j) => value - b[i][j]));
}

export function norm(a: Rows): number {
  return Math.sqrt(a.flat().reduce((total, value) => total + value * value, 0));
}

/** √tr(D G Dᵀ). */
export function normIn(g: Rows, d: Rows): number {
  return Math.sqrt(multiply(d, g).reduce((total, row, i) => total + row.reduce((sum, value, j) => sum + value * d[i][j], 0), 0));
}

/** XᵀX. */
export function gramOf(x: Rows): Rows {
  return multiply(
    x[0].map((_, j) => x.map((row) => row[j])),
    x,
  );
}

/** What a Linear multiplies with, its outermost adapter left out when it has one, [out, in]. */
export async function weightOf(backend: Backend, linear: Linear): Promise<Rows> {
  const [weight] = await backend.evaluate([linear.effectiveWeight()]);
  return toRows(await readFloats(weight), linear.inFeatures);
}

/** γ · up · down of the outermost adapter. */
export async function correctionOf(linear: Linear): Promise<Rows> {
  if (!(linear instanceof LowRankLinear)) throw new Error(`a '${linear.kind}' has no adapter`);
  const { down, up, rank, inFeatures, scaling } = linear;
  const product = multiply(toRows(await readFloats(up), rank), toRows(await readFloats(down), inFeatures));
  return product.map((row) => row.map((value) => scaling * value));
}
