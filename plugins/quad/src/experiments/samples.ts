// Values of a field by seed, and how two of them compare.
import type { ExperimentRow, ExperimentValue } from '@lowbit/core';

/** A field of the rows that share a setting, one value for each seed. */
export interface Sample {
  readonly bySeed: ReadonlyMap<ExperimentValue, number>;
  readonly mean: number;
  /** Standard deviation over the seeds; 0 for one. */
  readonly deviation: number;
}

/** Undefined where no row has the setting. What is not a number becomes NaN, with which nothing holds. */
export function sampleOf(rows: readonly ExperimentRow[], setting: ExperimentRow, field: string): Sample | undefined {
  const own = rows.filter((row) => Object.entries(setting).every(([name, value]) => row[name] === value));
  return own.length === 0 ? undefined : summarize(new Map(own.map((row) => [row['seed'], numberOf(row[field])])));
}

/** First minus second, seed by seed: what both owe to the seed drops out. */
export function difference(first: Sample, second: Sample): Sample {
  return summarize(new Map([...first.bySeed].map(([seed, value]) => [seed, value - (second.bySeed.get(seed) ?? Number.NaN)])));
}

/** Whether each sample is below the next, in every seed. */
export function ascends(samples: readonly Sample[]): boolean {
  return samples.slice(1).every((above, i) => [...difference(above, samples[i]).bySeed.values()].every((value) => value > 0));
}

/** Nats a token: 0.2 % of perplexity, by which small models of one recipe differ between rotations. */
export const NOISE = 0.002;

/** Whether the first exceeds the second by no more than noise: on average at most 0.002 nats, or the deviation of their difference. */
export function isAtMost(first: Sample, second: Sample): boolean {
  const { mean, deviation } = difference(first, second);
  return mean <= Math.max(NOISE, deviation);
}

/** The different values of a field, in the order of the rows. */
export function valuesOf(rows: readonly ExperimentRow[], field: string): ExperimentValue[] {
  return [...new Set(rows.map((row) => row[field]).filter((value) => value !== undefined))];
}

export function numberOf(value: unknown): number {
  return typeof value === 'number' ? value : Number.NaN;
}

export function show(value: number): string {
  return Number.isFinite(value) ? Number(value.toPrecision(3)).toString() : String(value);
}

/** '0.112 (0.11, 0.113)': the mean, and every seed where there are several. */
export function showSample({ mean, bySeed }: Sample): string {
  return bySeed.size > 1 ? `${show(mean)} (${[...bySeed.values()].map(show).join(', ')})` : show(mean);
}

function summarize(bySeed: ReadonlyMap<ExperimentValue, number>): Sample {
  const values = [...bySeed.values()];
  const mean = sum(values) / values.length;
  const squares = values.map((value) => (value - mean) ** 2);
  return { bySeed, mean, deviation: values.length > 1 ? Math.sqrt(sum(squares) / (values.length - 1)) : 0 };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
