// Labelled examples as they lie in files: JSON Lines and tab-separated columns, every field a text by its name.
import { createHash } from 'node:crypto';
import { LowbitError } from '@lowbit/core';
import { isRecord, jsonObject, type Line, readLines } from './records/lines.js';
import { readRecords, recordEndings } from './records/records.js';

/** One example. */
export interface TaskRow {
  /** 'train.tsv:3', for errors. */
  readonly where: string;
  /** The text of a field. @throws TASK_FIELD when the example has none of that name. */
  field(name: string): string;
}

/** Examples before they are put into a template. */
export interface TaskTable {
  readonly name: string;
  readonly rows: readonly TaskRow[];
  /** Of the file's bytes. */
  readonly sha256: string;
}

export interface TaskFileOptions {
  /** Names of the columns of a .tsv file whose first line is an example; without them the first line names the columns. */
  readonly columns?: readonly string[] | undefined;
}

/**
 * Examples of a .jsonl file (an object a line; 'question.text' is a field within a field; numbers and booleans are texts as JSON writes
 * them), of a .parquet file, or of a .tsv file as GLUE has them (no quoting). Empty lines are passed over.
 * @throws TASK_MISSING, TASK_FILE with file and line, TASK_EMPTY.
 */
export async function readTaskFile(path: string, { columns }: TaskFileOptions = {}): Promise<TaskTable> {
  const isTsv = path.endsWith('.tsv');
  if (!isTsv && !recordEndings.some((ending) => path.endsWith(ending))) {
    throw new LowbitError(
      'TASK_FILE',
      `${path}: examples are read from .jsonl, .parquet and .tsv files; convert it, or rename it if it is one`,
    );
  }
  if (!isTsv && columns)
    throw new LowbitError('TASK_FILE', `${path}: columns are named for .tsv files; other files name their fields themselves`);
  if (path.endsWith('.parquet')) {
    const { name, records, sha256 } = await readRecords(path);
    return { name, rows: records.map(({ where, value }) => rowOf(where, value)), sha256 };
  }
  const { name, lines, sha256 } = await readLines(path);
  const rows = isTsv ? tsvRows(lines, columns) : lines.map((line) => rowOf(line.where, jsonObject(line)));
  if (rows.length === 0)
    throw new LowbitError('TASK_EMPTY', `${path}: has no example${isTsv && !columns ? ' below its header line' : ''}; check the file`);
  return { name, rows, sha256 };
}

/** Examples in memory, fields by name. */
export function taskTable(name: string, records: readonly Readonly<Record<string, string>>[]): TaskTable {
  const rows = records.map((record, i) => rowOf(`${name}:${i + 1}`, record));
  return { name, rows, sha256: createHash('sha256').update(JSON.stringify(records)).digest('hex') };
}

function tsvRows(lines: readonly Line[], columns: readonly string[] | undefined): TaskRow[] {
  const names = columns ?? lines[0]?.line.split('\t') ?? [];
  const hint = columns ? '' : "; if the file's first line is an example, name its columns";
  return lines.slice(columns ? 0 : 1).map(({ line, where }) => {
    const cells = line.split('\t');
    if (cells.length !== names.length) {
      const expected = `${names.length} (${names.join(', ')})`;
      throw new LowbitError('TASK_FILE', `${where}: has ${cells.length} columns in place of ${expected}; separate them by tabs${hint}`);
    }
    return rowOf(where, Object.fromEntries(names.map((name, i) => [name, cells[i]])), hint);
  });
}

function rowOf(where: string, record: Readonly<Record<string, unknown>>, hint = ''): TaskRow {
  const field = (name: string): string => {
    const value = Object.hasOwn(record, name) ? record[name] : name.split('.').reduce<unknown>(within, record);
    if (typeof value === 'string') return value;
    if (typeof value === 'number' || typeof value === 'boolean') return String(value);
    const known = `it has ${Object.keys(record).join(', ')}`;
    const what = value === undefined ? `no field '${name}'` : `field '${name}' is no text`;
    throw new LowbitError('TASK_FIELD', `${where}: ${what}; ${known}${hint}`);
  };
  return { where, field };
}

function within(value: unknown, key: string): unknown {
  return isRecord(value) && Object.hasOwn(value, key) ? value[key] : undefined;
}
