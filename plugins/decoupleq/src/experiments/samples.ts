// What claims are computed from: the values of a field over the rows of one setting.
import type { ExperimentRow } from '@lowbit/core';

/** Values of a field over seeds. */
export interface Sample {
  readonly values: readonly number[];
  readonly mean: number;
}

export function mean(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0) / values.length;
}

/** Rows whose fields have these values. */
export function rowsWhere(rows: readonly ExperimentRow[], where: ExperimentRow): ExperimentRow[] {
  return rows.filter((row) => Object.entries(where).every(([field, value]) => row[field] === value));
}

/** Null where no row speaks about the setting. A row without a number there makes the mean NaN, with which no claim holds. */
export function sampleOf(rows: readonly ExperimentRow[], where: ExperimentRow, field: string): Sample | null {
  const values = rowsWhere(rows, where).map((row) => numberOf(row[field]));
  return values.length === 0 ? null : { values, mean: mean(values) };
}

export function numberOf(value: unknown): number {
  return typeof value === 'number' ? value : Number.NaN;
}

/** The different combinations of some fields, in the order of the rows. */
export function settingsOf(rows: readonly ExperimentRow[], fields: readonly string[]): ExperimentRow[] {
  const settings = new Map(
    rows.map((row) => {
      const setting = Object.fromEntries(fields.map((field) => [field, row[field]]));
      return [JSON.stringify(setting), setting] as const;
    }),
  );
  return [...settings.values()];
}

/** 'stories15M, 2 bits, groups of 32'. */
export function subjectOf(...parts: readonly unknown[]): string {
  return parts.map(String).join(', ');
}

export function show(value: number): string {
  return Number.isFinite(value) ? Number(value.toPrecision(3)).toString() : String(value);
}

/** '0.112 (0.11, 0.113)': the mean, and each seed's value where there are several. */
export function showSample({ mean, values }: Sample): string {
  return values.length > 1 ? `${show(mean)} (${values.map(show).join(', ')})` : show(mean);
}
