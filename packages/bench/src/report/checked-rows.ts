// Rows and logs of a run, checked as far as a report relies on them: their files may have been written by other versions, or edited.
import { LowbitError } from '@lowbit/core';
import type { LogLine, RunFiles } from '../folder.js';
import type { BenchRow } from '../row.js';

/** @throws REPORT_ROWS when there are none, or one is not what a benchmark writes. */
export function checkedRows({ rows }: RunFiles): BenchRow[] {
  if (rows.length === 0) throw unusable('there are no rows', 'run the benchmark until a cell is done');
  return rows.map((row, i) => {
    if (!isRow(row)) throw unusable(`row ${i + 1} is not what a benchmark writes`, 'run the benchmark again, or restore its files');
    // JSON writes what is not finite as null: the perplexity of a model that broke.
    if (row.value !== null || isRecord(row.error)) return row;
    return { ...row, error: { code: 'NOT_FINITE', message: `${row.evaluator} is not a finite number` } };
  });
}

/** Lines that are not records of methods are left out: curves are all that is made from them. */
export function checkedLogs({ logs }: RunFiles): LogLine[] {
  return logs.filter((line: unknown) => isRecord(line) && isRecord(line['record']));
}

function isRow(row: unknown): boolean {
  if (!isRecord(row)) return false;
  const { model, recipe, method, evaluator, seed, value, seconds, peakRssMiB, steps, versions, protocol } = row;
  const areTexts = [model, recipe, method, evaluator].every((one) => typeof one === 'string');
  const areNumbers = [seed, seconds, peakRssMiB].every((one) => typeof one === 'number');
  const hasValue = value === null || (typeof value === 'number' && isRecord(protocol));
  return areTexts && areNumbers && hasValue && Array.isArray(steps) && isRecord(versions);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}

function unusable(what: string, remedy: string): LowbitError {
  return new LowbitError('REPORT_ROWS', `report: ${what}; ${remedy}`);
}
