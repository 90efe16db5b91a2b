// Which files of a dataset of the hub are meant: one that is named, or those of a split.
import { join } from 'node:path';
import { LowbitError } from '@lowbit/core';
import { type HubOptions, type HubSource, isHubReference, openSource } from '@lowbit/hub';
import { type Corpus, corpusOf, type Split } from './corpus.js';
import { type CorpusFileOptions, readCorpusFile } from './corpus-file.js';

/** 'hf:owner/name/folder/file.jsonl' */
const FILE = /^(hf:[^/]+\/.+)\/([^/]+\.(?:parquet|jsonl|txt|tsv))$/;
const TEXT_ENDING = /\.(?:parquet|jsonl|txt)$/;

/**
 * A path as it is, or of 'hf:owner/name/file.jsonl' the file in the cache, fetched if need be.
 * @throws HUB_FILES for a reference to no file, and what `openSource` and its `fetch` throw.
 */
export async function localFile(path: string, hub?: HubOptions): Promise<string> {
  if (!isHubReference(path)) return path;
  const [, folder, file] = FILE.exec(path) ?? [];
  if (folder === undefined) throw new LowbitError('HUB_FILES', `${path}: names no file; name a .jsonl, .parquet, .txt or .tsv file of it`);
  const source = await openSource(folder, 'dataset', hub);
  if (!source.files.includes(file)) throw lacking(source, `no file ${file}`);
  await source.fetch([file]);
  return join(source.directory, file);
}

/** Names that splits to judge by have, in the order in which they are looked for. */
const HELD_OUT = ['test', 'validation', 'valid', 'val', 'dev', 'eval'];

/** Text of a dataset for a use. */
export interface HubCorpus {
  readonly corpus: Corpus;
  /** Whether the dataset has a part for this use and this is it. Otherwise it is for any use, to be divided. */
  readonly isForUse: boolean;
  /** Whether it is what was named, a file or a split, and not what was found. */
  readonly isNamed: boolean;
}

export interface HubCorpusOptions extends CorpusFileOptions {
  readonly use: Split;
  /** Of the dataset, by its name there: whatever the use is. */
  readonly datasetSplit?: string | undefined;
}

/**
 * Reads a dataset of the hub as a corpus: one file where the reference names one; else the files of `datasetSplit`, or those named after
 * the use: 'train', and 'test' or 'validation' to judge by. All of them where the dataset has no such two.
 * @throws HUB_FILES naming what there is, and what `openSource` and reading the files throw.
 */
export async function readHubCorpus(
  reference: string,
  { use, datasetSplit, ...options }: HubCorpusOptions,
  hub?: HubOptions,
): Promise<HubCorpus> {
  const [, folder = reference, file] = FILE.exec(reference) ?? [];
  const source = await openSource(folder, 'dataset', hub);
  const { files, isForUse, split } =
    file === undefined ? filesFor(source, use, datasetSplit) : { files: [file], isForUse: false, split: 'all' };
  if (file !== undefined && !source.files.includes(file)) throw lacking(source, `no file ${file}`);
  await source.fetch(files);
  const name = file === undefined ? source.reference : `${source.reference}/${file}`;
  const parts: Corpus[] = [];
  for (const one of files) parts.push(await readCorpusFile(join(source.directory, one), options));
  const corpus = corpusOf(
    parts.flatMap(({ documents }) => documents),
    { name, split, rule: [...new Set(parts.map(({ rule }) => rule))].join('; ') },
  );
  return { corpus, isForUse, isNamed: file !== undefined || datasetSplit !== undefined };
}

interface ChosenFiles {
  readonly files: readonly string[];
  readonly isForUse: boolean;
  readonly split: string;
}

function filesFor(source: HubSource, use: Split, datasetSplit: string | undefined): ChosenFiles {
  const texts = source.files.filter((path) => TEXT_ENDING.test(path));
  if (texts.length === 0) throw lacking(source, 'no .parquet, .jsonl or .txt files');
  const ofSplit = (split: string): string[] => texts.filter((path) => isOfSplit(path, split));
  if (datasetSplit !== undefined) {
    const files = ofSplit(datasetSplit);
    if (files.length === 0) throw lacking(source, `no files of a split '${datasetSplit}'`);
    return { files: inOneFolder(source, files), isForUse: false, split: datasetSplit };
  }
  const train = ofSplit('train');
  const heldOut = HELD_OUT.find((split) => ofSplit(split).length > 0);
  if (use !== 'all' && train.length > 0 && heldOut !== undefined) {
    const split = use === 'train' ? 'train' : heldOut;
    return { files: inOneFolder(source, ofSplit(split)), isForUse: true, split };
  }
  return { files: inOneFolder(source, use === 'all' || train.length === 0 ? texts : train), isForUse: false, split: 'all' };
}

/** As datasets are laid out there: 'train.jsonl', 'data/train-00000-of-00002.parquet', 'train/0.parquet', 'wiki.train.txt'. */
function isOfSplit(path: string, split: string): boolean {
  return path.split(/[/._-]/).includes(split);
}

/** Configurations of a dataset lie in folders of their own, and are not one corpus. */
function inOneFolder(source: HubSource, files: readonly string[]): readonly string[] {
  const folders = [...new Set(files.map((path) => path.slice(0, Math.max(0, path.lastIndexOf('/')))))];
  if (folders.length === 1) return files;
  const example = folders.find((folder) => folder !== '') ?? '';
  throw new LowbitError(
    'HUB_FILES',
    `${source.reference}: has text in ${folders.length} folders (${folders.slice(0, 8).join(', ')}${folders.length > 8 ? ', …' : ''}); name one, as in ${source.reference}/${example}`,
  );
}

function lacking({ reference, files }: HubSource, what: string): LowbitError {
  const shown = files.slice(0, 12).join(', ') || 'no files';
  return new LowbitError(
    'HUB_FILES',
    `${reference}: has ${what}; it has ${shown}${files.length > 12 ? ', …' : ''}. Name a folder or a file of those`,
  );
}
