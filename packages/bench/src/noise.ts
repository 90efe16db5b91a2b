// How much of a number is noise: what it differs by between seeds, or its standard error where there is one seed.
import type { ScoreRow } from './row.js';

/** One score of one recipe on one model, over its seeds. */
export interface Spread {
  readonly mean: number;
  readonly seeds: number;
  /** Standard deviation between seeds; of a single seed the standard error, NaN where that is not known. */
  readonly noise: number;
}

/** Rows that differ in their seeds. */
export function spreadOf(rows: readonly Pick<ScoreRow, 'value' | 'stderr'>[]): Spread {
  const [first] = rows;
  if (rows.length === 1) return { mean: first.value, seeds: 1, noise: first.stderr };
  // What no seed changes is exactly itself: a rounded mean would not be.
  if (rows.every(({ value }) => value === first.value)) return { mean: first.value, seeds: rows.length, noise: 0 };
  const mean = rows.reduce((sum, { value }) => sum + value, 0) / rows.length;
  const squares = rows.reduce((sum, { value }) => sum + (value - mean) ** 2, 0);
  return { mean, seeds: rows.length, noise: Math.sqrt(squares / (rows.length - 1)) };
}

/** What two means differ by if nothing but chance is between them. */
export function noiseBetween(a: Spread, b: Spread): number {
  return Math.hypot(a.noise, b.noise);
}

const CLEAR = 2;

/** Whether the means are further apart than twice what chance explains. */
export function differs(a: Spread, b: Spread): boolean {
  return Math.abs(a.mean - b.mean) > CLEAR * noiseBetween(a, b);
}
