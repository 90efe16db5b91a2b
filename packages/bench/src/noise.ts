// How far numbers are off by chance: each by itself, and the difference of two that were judged on one text.
import { isDeepStrictEqual } from 'node:util';
import type { ScoreRow } from './row.js';

/** One score of one recipe on one model, over its seeds. */
export interface Spread {
  readonly mean: number;
  readonly seeds: number;
  /** Standard deviation between seeds; undefined for one seed. */
  readonly deviation: number | undefined;
  /** Standard error that the text, or the examples, make: mean over the seeds, which were all judged on the same. */
  readonly stderr: number;
  /** Standard error of the mean, which is what ± says: of the text, and where there are several seeds of these. NaN where it is not known. */
  readonly noise: number;
  /** What each window of the text gives, mean over the seeds; undefined where that is not known of all of them. */
  readonly byWindow: readonly number[] | undefined;
  /** Of the first seed: windows of equal protocols are the same ones. */
  readonly protocol: ScoreRow['protocol'];
}

type Measured = Pick<ScoreRow, 'value' | 'stderr' | 'byWindow' | 'protocol'>;

/** Rows that differ in their seeds. */
export function spreadOf(rows: readonly Measured[]): Spread {
  const [{ value: first, protocol }] = rows;
  const values = rows.map(({ value }) => value);
  // What no seed changes is exactly itself: a rounded mean would not be.
  const mean = values.every((value) => value === first) ? first : meanOf(values);
  const deviation = rows.length > 1 ? deviationOf(values, mean) : undefined;
  const stderr = meanOf(rows.map((row) => row.stderr));
  const spread = { mean, seeds: rows.length, deviation, stderr, byWindow: meanByWindow(rows), protocol };
  return { ...spread, noise: Math.hypot(stderr, seedNoise(spread)) };
}

function meanByWindow(rows: readonly Measured[]): number[] | undefined {
  const [{ byWindow: first, protocol }] = rows;
  const others = rows.flatMap((row) => (row.byWindow && isDeepStrictEqual(row.protocol, protocol) ? [row.byWindow] : []));
  if (!first || others.length < rows.length || others.some(({ length }) => length !== first.length)) return undefined;
  return first.map((_, window) => meanOf(others.map((values) => values[window])));
}

/** Two means, and whether more than chance is between them. */
export interface Comparison {
  /** b − a. */
  readonly difference: number;
  /** Its standard error. NaN where it is not known. */
  readonly noise: number;
  /** Whether the difference is more than twice its noise. */
  readonly isClear: boolean;
}

const CLEAR = 2;

/**
 * The difference of two means. What text makes of it is taken window by window where both were judged on the same ones, since text that is hard for
 * one is mostly hard for the other; else from their own errors, as if their texts were two. What seeds make of it is added: nothing for one seed.
 */
export function compare(a: Spread, b: Spread): Comparison {
  const difference = b.mean - a.mean;
  const noise = Math.hypot(textNoise(a, b), seedNoise(a), seedNoise(b));
  return { difference, noise, isClear: Math.abs(difference) > CLEAR * noise };
}

function textNoise(a: Spread, b: Spread): number {
  const [own, others] = [a.byWindow, b.byWindow];
  const isPaired = own && others && own.length === others.length && own.length > 1 && isDeepStrictEqual(a.protocol, b.protocol);
  if (!isPaired) return Math.hypot(a.stderr, b.stderr);
  const differences = own.map((value, window) => others[window] - value);
  return deviationOf(differences, meanOf(differences)) / Math.sqrt(differences.length);
}

function seedNoise({ deviation = 0, seeds }: Pick<Spread, 'deviation' | 'seeds'>): number {
  return deviation / Math.sqrt(seeds);
}

/** Standard deviation of a sample. */
export function deviationOf(values: readonly number[], mean: number): number {
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1));
}

export function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
