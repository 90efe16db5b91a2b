// What claims are made of: a field's values by seed, and comparisons that hold in every seed.
import type { ExperimentRow, ExperimentValue } from '../experiment.js';

/** A field of the rows that share a setting, one for each seed. */
export interface Sample {
  readonly bySeed: ReadonlyMap<ExperimentValue, number>;
  readonly mean: number;
  /** Standard deviation over the seeds; 0 for one. */
  readonly deviation: number;
}

/** Of the rows whose fields have the values of a setting; undefined where there is none. What is not a number becomes NaN, with which nothing holds. */
export function sampleOf(rows: readonly ExperimentRow[], setting: ExperimentRow, field: string): Sample | undefined {
  const own = rows.filter((row) => Object.entries(setting).every(([name, value]) => row[name] === value));
  if (own.length === 0) return undefined;
  const bySeed = new Map(own.map((row) => [row['seed'], numberOf(row[field])]));
  const values = [...bySeed.values()];
  const mean = sum(values) / values.length;
  const squares = values.map((value) => (value - mean) ** 2);
  return { bySeed, mean, deviation: values.length > 1 ? Math.sqrt(sum(squares) / (values.length - 1)) : 0 };
}

/** Samples of all settings; undefined where one is missing. */
export function samplesOf(rows: readonly ExperimentRow[], settings: readonly ExperimentRow[], field: string): Sample[] | undefined {
  const samples = settings.map((setting) => sampleOf(rows, setting, field));
  return samples.every((sample) => sample !== undefined) ? samples : undefined;
}

/** Value by value: a function of samples that have the same seeds. */
export function combine(of: (...values: number[]) => number, ...samples: readonly Sample[]): Sample {
  const rows = [...samples[0].bySeed.keys()].map((seed) => ({
    seed,
    value: of(...samples.map((sample) => sample.bySeed.get(seed) ?? Number.NaN)),
  }));
  return sampleOf(rows, {}, 'value') as Sample;
}

/** Whether each sample is below the next, in every seed. */
export function ascends(samples: readonly Sample[]): boolean {
  return samples
    .slice(1)
    .every((above, i) => [...above.bySeed].every(([seed, value]) => (samples[i].bySeed.get(seed) ?? Number.NaN) < value));
}

/** Spearman's: the correlation of ranks, equal values sharing the mean of theirs. NaN where either list is constant, or holds NaN. */
export function rankCorrelation(a: readonly number[], b: readonly number[]): number {
  const [x, y] = [centredRanks(a), centredRanks(b)];
  const product = (left: readonly number[], right: readonly number[]): number => sum(left.map((value, i) => value * right[i]));
  return product(x, y) / Math.sqrt(product(x, x) * product(y, y));
}

/** Twice the rank of each value, less the mean. */
function centredRanks(values: readonly number[]): number[] {
  return values.map((value) => (Number.isNaN(value) ? value : sum(values.map((other) => Math.sign(value - other)))));
}

/** The different values of a field, in the order of the rows. */
export function valuesOf(rows: readonly ExperimentRow[], field: string): ExperimentValue[] {
  return [...new Set(rows.map((row) => row[field]).filter((value) => value !== undefined))];
}

/** NaN for what is no number: with it nothing holds. */
export function numberOf(value: unknown): number {
  return typeof value === 'number' ? value : Number.NaN;
}

/** Three digits. */
export function show(value: number): string {
  return Number.isFinite(value) ? Number(value.toPrecision(3)).toString() : String(value);
}

/** '0.112 (0.11, 0.113)': the mean, and every seed where there are several. */
export function showSample({ mean, bySeed }: Sample): string {
  return bySeed.size > 1 ? `${show(mean)} (${[...bySeed.values()].map(show).join(', ')})` : show(mean);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
