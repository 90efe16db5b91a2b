// The files of a task's records among those of other tasks.
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { LowbitError } from '@lowbit/core';
import { hubDirectory, isHubReference } from './hub.js';
import { joinTables, type RecordTable, readRecords, recordEndings } from './records.js';

/**
 * The records of a task's split. In a directory, or in the cached dataset 'hf:owner/name', they are the first that there are of
 * `<task>.<split>`, `<task>/<split>`, `<task>/<split>-*` (as datasets lie on the Hugging Face hub), `<split>` and `<split>-*`, with the endings
 * .jsonl and .parquet; parts of a split are joined in the order of their names.
 * @throws TASK_MISSING naming what was looked for, and what `readRecords` throws.
 */
export async function openRecords(source: string, task: string, split: string): Promise<RecordTable> {
  const directory = isHubReference(source) ? await hubDirectory(source) : source;
  const isOf = (stem: string) => (file: string) => recordEndings.some((ending) => file === stem + ending);
  const isPart = (file: string): boolean => file.startsWith(`${split}-`) && recordEndings.some((ending) => file.endsWith(ending));
  const [all, own] = [await filesOf(directory), await filesOf(join(directory, task))];
  const ofTask = own.map((file) => join(task, file));
  const files = [
    all.filter(isOf(`${task}.${split}`)),
    ofTask.filter((_, i) => isOf(split)(own[i])),
    ofTask.filter((_, i) => isPart(own[i])),
    all.filter(isOf(split)),
    all.filter(isPart),
  ].find(({ length }) => length > 0);
  if (!files) {
    const looked = `${task}.${split}.jsonl, ${task}/${split}.jsonl and ${task}/${split}-*.jsonl, or .parquet`;
    throw new LowbitError('TASK_MISSING', `${source}: has no records of ${task}'s split '${split}'; looked for ${looked}`);
  }
  const tables: RecordTable[] = [];
  for (const file of files) tables.push(await readRecords(join(directory, file)));
  return joinTables(files.length === 1 ? tables[0].name : `${task} ${split}, ${files.length} parts`, tables);
}

/** By name; none where there is no such directory: the message says what was looked for. */
async function filesOf(directory: string): Promise<string[]> {
  return (await readdir(directory).catch(() => [])).sort();
}
