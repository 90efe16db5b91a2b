// Rows as a Markdown table: what meets in a cell is a mean and a standard deviation.
import type { ExperimentRow, ExperimentTable, ExperimentValue } from '@lowbit/core';
import { groupBy } from '../groups.js';
import { formatNumber, layOutTable } from '../markdown.js';

/**
 * A line for each combination of `rows`, in the order in which they are met; a column for each value of `columns` and each of `values`.
 * Rows without one of these fields have no place in it. Cells with several numbers show their sample standard deviation.
 */
export function pivotTable(rows: readonly ExperimentRow[], { rows: keys, columns, values }: ExperimentTable): string {
  const placed = rows.filter((row) => [...keys, ...(columns === undefined ? [] : [columns])].every((field) => row[field] !== undefined));
  const sorts = columns === undefined ? [undefined] : [...new Set(placed.map((row) => row[columns]))];
  const lines = groupBy(placed, (row) => keys.map((field) => row[field]));
  const header = sorts.flatMap((sort) => values.map((value) => columnTitle(columns, sort, value, values.length)));
  const body = lines.map((line) => {
    const names = keys.map((field) => formatValue(line[0][field]));
    const cells = sorts.map((sort) => (columns === undefined ? line : line.filter((row) => row[columns] === sort)));
    return [...names, ...cells.flatMap((cell) => values.map((value) => formatCell(cell, value)))];
  });
  return layOutTable(
    [...keys, ...header].map(escapeBars),
    body.map((line) => line.map(escapeBars)),
    keys.length,
  );
}

/** 'bits 2', or 'loss-gap, bits 2' where there are several values. */
function columnTitle(columns: string | undefined, sort: ExperimentValue | undefined, value: string, count: number): string {
  if (columns === undefined || sort === undefined) return value;
  const title = typeof sort === 'string' ? sort : `${columns} ${formatValue(sort)}`;
  return count === 1 ? title : `${value}, ${title}`;
}

function formatCell(rows: readonly ExperimentRow[], field: string): string {
  const numbers = rows.map((row) => row[field]).filter((value) => typeof value === 'number');
  if (numbers.length === 0) return '';
  const mean = numbers.reduce((sum, value) => sum + value, 0) / numbers.length;
  if (numbers.length === 1) return formatNumber(mean);
  const variance = numbers.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (numbers.length - 1);
  return `${formatNumber(mean)} ± ${Number(Math.sqrt(variance).toPrecision(2))}`;
}

function formatValue(value: ExperimentValue | undefined): string {
  return typeof value === 'number' ? formatNumber(value) : String(value);
}

/** A bar would end the cell. */
function escapeBars(text: string): string {
  return text.replaceAll('|', '\\|');
}
