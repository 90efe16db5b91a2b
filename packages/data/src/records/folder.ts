// The files of a task's records among those of other tasks.
import { readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { LowbitError } from '@lowbit/core';
import { type HubOptions, isHubReference, openSource } from '@lowbit/hub';
import { joinTables, type RecordTable, readRecords, recordEndings } from './records.js';

/** Where the records of a task's split lie, besides what its name says. */
export interface RecordsPlace {
  /** The folder that the dataset's own repository has for the task, 'ARC-Easy', and what the split is called there, 'validation_matched'. */
  readonly onHub?: { readonly folder: string; readonly split: string } | undefined;
  /** Whether other tasks are read from the same source: a file that names no task would be taken for the records of each. */
  readonly isShared?: boolean | undefined;
}

/**
 * The records of a task's split. In a directory, or in the dataset 'hf:owner/name' of the hub, they are the first that there are of
 * `<task>.<split>`, `<task>/<split>`, `<task>/<split>-*` (as datasets lie on the Hugging Face hub), the same in the folder that the dataset's own
 * repository has for the task, and, in a source of this task alone, `<split>` and `<split>-*`. Endings are .jsonl and .parquet; parts of a split
 * are joined in the order of their names. Of the hub, these files alone are fetched.
 * @throws TASK_MISSING naming what was looked for, TASK_FILE where it lies there in both kinds or in some of its parts, and what
 * `readRecords`, `openSource` and its `fetch` throw.
 */
export async function openRecords(
  source: string,
  task: string,
  split: string,
  place: RecordsPlace = {},
  hub?: HubOptions,
): Promise<RecordTable> {
  const paths = await findRecords(source, task, split, place, hub);
  const tables: RecordTable[] = [];
  for (const path of paths) tables.push(await readRecords(path));
  return joinTables(paths.length === 1 ? tables[0].name : `${task} ${split}, ${paths.length} parts`, tables);
}

/** Paths of the files that `openRecords` reads, in its order. @throws TASK_MISSING, TASK_FILE, and what fetching throws. */
export async function findRecords(
  source: string,
  task: string,
  split: string,
  place: RecordsPlace = {},
  hub?: HubOptions,
): Promise<readonly string[]> {
  const { onHub, isShared = false } = place;
  const dataset = isHubReference(source) ? await openSource(source, 'dataset', hub) : undefined;
  const directory = dataset?.directory ?? source;
  const filesIn = async (folder: string): Promise<string[]> =>
    dataset ? dataset.files.filter((path) => dirname(path) === folder).map((path) => basename(path)) : filesOf(join(directory, folder));
  const found = async (folder: string, files: readonly string[]): Promise<readonly string[]> => {
    const paths = checked(join(source, folder), files).map((file) => join(folder, file));
    await dataset?.fetch(paths.map((path) => path.replaceAll('\\', '/')));
    return paths.map((path) => join(directory, path));
  };
  const onHubToo = onHub ? [{ folder: onHub.folder, stem: onHub.split }] : [];
  const among = [{ folder: task, stem: split }, ...onHubToo];
  const bare = isShared ? [] : [{ folder: '.', stem: split }, ...onHubToo.map(({ stem }) => ({ folder: '.', stem }))];

  const inOne = (await filesIn('.')).filter((file) => isWhole(file, `${task}.${split}`));
  if (inOne.length > 0) return found('.', inOne);
  for (const { folder, stem } of [...among, ...bare]) {
    const files = await filesIn(folder);
    const whole = files.filter((file) => isWhole(file, stem));
    const own = whole.length > 0 ? whole : files.filter((file) => isPart(file, stem));
    if (own.length > 0) return found(folder, own);
  }
  const looked = [
    `${task}.${split}.jsonl`,
    ...among.flatMap(({ folder, stem }) => [`${folder}/${stem}.jsonl`, `${folder}/${stem}-*.jsonl`]),
  ];
  const remedy = isShared ? '; where several tasks are read from one place, files must name theirs' : '';
  throw new LowbitError(
    'TASK_MISSING',
    `${source}: has no records of ${task}'s split '${split}'; looked for ${looked.join(', ')}, and the same with .parquet${remedy}`,
  );
}

function isWhole(file: string, stem: string): boolean {
  return recordEndings.some((ending) => file === stem + ending);
}

function isPart(file: string, stem: string): boolean {
  return file.startsWith(`${stem}-`) && recordEndings.some((ending) => file.endsWith(ending));
}

/** Files that make up a split. @throws TASK_FILE where some would be counted twice, or are missing. */
function checked(directory: string, files: readonly string[]): readonly string[] {
  if (recordEndings.every((ending) => files.some((file) => file.endsWith(ending)))) {
    const all = files.join(', ');
    throw new LowbitError('TASK_FILE', `${directory}: has one split in several kinds of files, ${all}; keep those of one kind alone`);
  }
  const parts = /-of-(\d+)(?:-[^./]*)?\.\w+$/.exec(files[0])?.[1];
  if (parts !== undefined && Number(parts) !== files.length) {
    throw new LowbitError(
      'TASK_FILE',
      `${directory}: has ${files.length} of ${Number(parts)} parts, ${files.join(', ')}; fetch the others`,
    );
  }
  return files;
}

/** By name; none where there is no such directory: the message says what was looked for. */
async function filesOf(directory: string): Promise<string[]> {
  return (await readdir(directory).catch(() => [])).sort();
}
