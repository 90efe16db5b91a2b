// Rows as a Markdown table: what meets in a cell is a mean and a standard deviation.
import type { ExperimentRow, ExperimentTable, ExperimentValue } from '@lowbit/core';
import { groupBy } from '../groups.js';
import { formatNumber, layOutTable } from '../markdown.js';

/** A table, and sentences about what its cells show. */
export interface PivotTable {
  readonly text: string;
  readonly notes: readonly string[];
}

/**
 * A line for each combination of `rows`, in the order in which they are met; a column for each value of `columns` and each of `values`.
 * Rows without one of these fields have no place in it. Cells with several numbers show their sample standard deviation.
 */
export function pivotTable(rows: readonly ExperimentRow[], { rows: keys, columns, values }: ExperimentTable): PivotTable {
  const placed = rows.filter((row) => [...keys, ...(columns === undefined ? [] : [columns])].every((field) => row[field] !== undefined));
  const sorts = columns === undefined ? [undefined] : [...new Set(placed.map((row) => row[columns]))];
  const header = sorts.flatMap((sort) => values.map((value) => columnTitle(columns, sort, value, values.length)));
  const lines = groupBy(placed, (row) => keys.map((field) => row[field])).map((line) => {
    const cells = sorts.map((sort) => (columns === undefined ? line : line.filter((row) => row[columns] === sort)));
    const numbers = cells.flatMap((cell) => values.map((value) => cell.map((row) => row[value]).filter((one) => typeof one === 'number')));
    return { names: keys.map((field) => formatValue(line[0][field])), numbers };
  });
  const counts = lines.flatMap(({ numbers }) => numbers.map((cell) => cell.length)).filter((count) => count > 0);
  const most = Math.max(...counts);
  const body = lines.map(({ names, numbers }) => [...names, ...numbers.map((cell) => formatCell(cell, most))]);
  return {
    text: layOutTable(
      [...keys, ...header].map(escapeBars),
      body.map((line) => line.map(escapeBars)),
      keys.length,
    ),
    notes: [
      ...(most > 1 ? ['± is one standard deviation over what a cell stands for: seeds, and what the table does not tell apart.'] : []),
      ...(counts.some((count) => count < most) ? [`(n): a cell of n numbers, where others have ${most}.`] : []),
    ],
  };
}

/** 'bits 2', or 'loss-gap, bits 2' where there are several values. */
function columnTitle(columns: string | undefined, sort: ExperimentValue | undefined, value: string, count: number): string {
  if (columns === undefined || sort === undefined) return value;
  const title = typeof sort === 'string' ? sort : `${columns} ${formatValue(sort)}`;
  return count === 1 ? title : `${value}, ${title}`;
}

/** '0.6 ± 0.14', and how many numbers there are where others have more. */
function formatCell(numbers: readonly number[], most: number): string {
  if (numbers.length === 0) return '';
  const count = numbers.length < most ? ` (${numbers.length})` : '';
  const mean = numbers.reduce((sum, value) => sum + value, 0) / numbers.length;
  if (numbers.length === 1) return `${formatNumber(mean)}${count}`;
  // Equal numbers may miss their own mean by a rounding error.
  const isOne = numbers.every((value) => value === numbers[0]);
  const variance = isOne ? 0 : numbers.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (numbers.length - 1);
  return `${formatNumber(mean)} ± ${Number(Math.sqrt(variance).toPrecision(2))}${count}`;
}

function formatValue(value: ExperimentValue | undefined): string {
  return typeof value === 'number' ? formatNumber(value) : String(value);
}

/** A bar would end the cell. */
function escapeBars(text: string): string {
  return text.replaceAll('|', '\\|');
}
