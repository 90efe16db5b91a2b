// Records of datasets as their files hold them, with lists and fields within fields: JSON Lines and Parquet.
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { LowbitError } from '@lowbit/core';
import { isRecord, jsonObject, readLines, unreadable } from './lines.js';

/** One record of a dataset. */
export interface DataRecord {
  /** 'test.jsonl:3', for errors. */
  readonly where: string;
  readonly value: Readonly<Record<string, unknown>>;
}

/** The records of a file, in its order. */
export interface RecordTable {
  readonly name: string;
  readonly records: readonly DataRecord[];
  /** Of the file's bytes. */
  readonly sha256: string;
}

/** File endings that `readRecords` reads. */
export const recordEndings: readonly string[] = ['.jsonl', '.parquet'];

/**
 * Records of a .jsonl file (an object a line, empty lines passed over) or of a .parquet file (64-bit integers become numbers).
 * @throws TASK_MISSING, TASK_FILE, TASK_EMPTY.
 */
export async function readRecords(path: string): Promise<RecordTable> {
  const table = path.endsWith('.parquet') ? await readParquet(path) : path.endsWith('.jsonl') ? await readJsonLines(path) : undefined;
  if (!table) throw new LowbitError('TASK_FILE', `${path}: records are read from ${recordEndings.join(' and ')} files; convert it`);
  if (table.records.length === 0) throw new LowbitError('TASK_EMPTY', `${path}: has no record; check the file`);
  return table;
}

/** Records of several files as those of one, in order. */
export function joinTables(name: string, tables: readonly RecordTable[]): RecordTable {
  if (tables.length === 1) return { ...tables[0], name };
  const sha256 = createHash('sha256')
    .update(tables.map((table) => table.sha256).join('\n'))
    .digest('hex');
  return { name, records: tables.flatMap(({ records }) => records), sha256 };
}

async function readJsonLines(path: string): Promise<RecordTable> {
  const { name, lines, sha256 } = await readLines(path);
  return { name, records: lines.map((line) => ({ where: line.where, value: jsonObject(line) })), sha256 };
}

async function readParquet(path: string): Promise<RecordTable> {
  const name = basename(path);
  const bytes = await readFile(path).catch((cause: Error) => {
    throw unreadable(path, cause);
  });
  // Loaded when a file needs them.
  const [{ parquetReadObjects }, { compressors }] = await Promise.all([import('hyparquet'), import('hyparquet-compressors')]);
  const file = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
  const rows = await parquetReadObjects({ file, compressors }).catch((cause: Error) => {
    throw new LowbitError('TASK_FILE', `${path}: is no Parquet file that can be read (${cause.message}); download or convert it again`, {
      cause,
    });
  });
  const records = rows.map((row, i) => ({ where: `${name}:${i + 1}`, value: plain(row) as DataRecord['value'] }));
  return { name, records, sha256: createHash('sha256').update(bytes).digest('hex') };
}

/** As JSON has it: numbers for 64-bit integers, text for dates. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value);
  if (Array.isArray(value)) return value.map(plain);
  if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<number | bigint>, plain);
  if (value instanceof Date) return value.toISOString();
  return isRecord(value) ? Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plain(one)])) : value;
}
