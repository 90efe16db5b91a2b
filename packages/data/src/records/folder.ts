// Datasets of several tasks in one directory.
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { LowbitError } from '@lowbit/core';
import { joinTables, type RecordTable, readRecords, recordEndings } from './records.js';

/**
 * The records of a task's split: `<task>.<split>`, `<task>/<split>` or, as datasets lie on the Hugging Face hub, `<task>/<split>-*`, with
 * the endings .jsonl and .parquet; parts of a split are joined in the order of their names.
 * @throws TASK_MISSING naming what was looked for, and what `readRecords` throws.
 */
export async function openRecords(directory: string, task: string, split: string): Promise<RecordTable> {
  const isOf = (stem: string) => (file: string) => recordEndings.some((ending) => file === stem + ending);
  const isPart = (file: string): boolean => file.startsWith(`${split}-`) && recordEndings.some((ending) => file.endsWith(ending));
  const [flat, own] = await Promise.all([filesOf(directory), filesOf(join(directory, task))]);
  const inOwn = (names: string[]): string[] => names.sort().map((file) => join(task, file));
  const ways = [flat.filter(isOf(`${task}.${split}`)), inOwn(own.filter(isOf(split))), inOwn(own.filter(isPart))];
  const files = ways.find(({ length }) => length > 0) ?? [];
  if (files.length === 0) {
    const looked = `${task}.${split}.jsonl, ${task}/${split}.jsonl and ${task}/${split}-*.jsonl, or .parquet`;
    throw new LowbitError('TASK_MISSING', `${directory}: has no records of ${task}'s split '${split}'; looked for ${looked}`);
  }
  const tables: RecordTable[] = [];
  for (const file of files) tables.push(await readRecords(join(directory, file)));
  return joinTables(files.length === 1 ? basename(files[0]) : `${task}/${split}-*`, tables);
}

/** None where there is no such directory: the message says what was looked for. */
async function filesOf(directory: string): Promise<string[]> {
  return readdir(directory).catch(() => []);
}
