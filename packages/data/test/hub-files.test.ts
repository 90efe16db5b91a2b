// Texts and records of datasets on a hub of this machine.
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { HubOptions } from '@lowbit/hub';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Files, type HubServer, startHub } from '../../hub/test/hub-server.js';
import { localFile, openRecords, readHubCorpus } from '../src/index.js';
import { parquetOf } from './parquet-writer.js';

const commit = 'c'.repeat(40);
let hub: HubServer;
let cache: string;
let options: HubOptions;
beforeEach(async () => {
  hub = await startHub();
  cache = await mkdtemp(join(tmpdir(), 'lowbit-hub-data-'));
  options = { settings: { cache, endpoint: hub.endpoint, isOffline: false }, wait: async () => undefined };
});
afterEach(async () => {
  await hub.close();
  await rm(cache, { recursive: true });
});

const serve = (files: Files): void => void hub.repositories.set('datasets/org/data', { files, commit });
const downloads = (): string[] => hub.requests.flatMap(({ url }) => /\/resolve\/[^/]+\/(.*)/.exec(url)?.[1] ?? []);
const text = (...texts: string[]): Buffer => parquetOf([{ text: texts }]);

describe('readHubCorpus', () => {
  const splits = {
    'en/train-00000-of-00002.parquet': text('a', 'b'),
    'en/train-00001-of-00002.parquet': text('c'),
    'en/test-00000-of-00001.parquet': text('d'),
    'en/validation-00000-of-00001.parquet': text('e'),
    'README.md': '#',
  };

  it('takes the split that is for a use, and fetches no other', async () => {
    serve(splits);
    const train = await readHubCorpus('hf:org/data/en', { use: 'train' }, options);
    expect(train).toMatchObject({
      isForUse: true,
      corpus: { name: `hf:org/data@${commit}/en`, split: 'train', documents: ['a', 'b', 'c'] },
    });
    expect(downloads().sort()).toEqual(Object.keys(splits).slice(0, 2));
    expect((await readHubCorpus('hf:org/data/en', { use: 'held-out' }, options)).corpus).toMatchObject({ split: 'test', documents: ['d'] });
    const all = await readHubCorpus('hf:org/data/en', { use: 'all' }, options);
    expect(all).toMatchObject({ isForUse: false, corpus: { documents: ['d', 'a', 'b', 'c', 'e'] } });
  });

  it('takes the split that is named, for any use', async () => {
    serve(splits);
    const named = await readHubCorpus('hf:org/data/en', { use: 'train', datasetSplit: 'validation' }, options);
    expect(named).toMatchObject({ isForUse: false, corpus: { split: 'validation', documents: ['e'] } });
    await expect(readHubCorpus('hf:org/data/en', { use: 'train', datasetSplit: 'dev' }, options)).rejects.toThrow(
      /HUB_FILES: hf:org\/data@c+\/en: has no files of a split 'dev'; it has test-00000-of-00001\.parquet, train-/,
    );
  });

  it.each([
    ['train.jsonl and validation.jsonl', { 'train.jsonl': '{"text":"a"}', 'validation.jsonl': '{"text":"b"}' }, 'hf:org/data', ['b'], true],
    ['folders of splits', { 'train/0.txt': 'a', 'test/0.txt': 'b' }, 'hf:org/data', ['b'], true],
    ['names with dots', { 'wiki.train.txt': 'a', 'wiki.valid.txt': 'b' }, 'hf:org/data', ['b'], true],
    ['a train split alone', { 'data/train-00000-of-00001.parquet': text('a', 'b') }, 'hf:org/data', ['a', 'b'], false],
    ['no splits', { '0.parquet': text('a'), '1.parquet': text('b') }, 'hf:org/data', ['a', 'b'], false],
    ['words that hold the name of a split', { 'training.txt': 'a', 'contest.txt': 'b' }, 'hf:org/data', ['b', 'a'], false],
    ['a file', { 'en/test.txt': 'a', 'en/x.txt': 'b' }, 'hf:org/data/en/x.txt', ['b'], false],
  ])('judges by %s', async (_, files, reference, documents, isForUse) => {
    serve(files);
    expect(await readHubCorpus(reference, { use: 'held-out' }, options)).toMatchObject({ isForUse, corpus: { documents } });
  });

  it('takes no texts of several configurations for one', async () => {
    serve({ 'en/train.jsonl': '{}', 'de/train.jsonl': '{}', 'en/test.jsonl': '{}' });
    await expect(readHubCorpus('hf:org/data', { use: 'train' }, options)).rejects.toThrow(
      /HUB_FILES.*has text in 2 folders \(de, en\); name one, as in hf:org\/data@c+\/de/,
    );
  });

  it.each([
    [
      'hf:org/data',
      { 'data.csv': 'a', 'x.json.gz': 'b' },
      /HUB_FILES.*has no \.parquet, \.jsonl or \.txt files; it has data\.csv, x\.json\.gz/,
    ],
    ['hf:org/data/en/none.txt', { 'en/test.txt': 'a' }, /HUB_FILES.*has no file none\.txt; it has test\.txt/],
    ['hf:org/data/de', { 'en/test.txt': 'a' }, /HUB_MISSING.*has no de at revision/],
    ['hf:org', {}, /HUB_REFERENCE/],
  ])('says what is wrong with %s', async (reference, files, message) => {
    serve(files);
    await expect(readHubCorpus(reference, { use: 'all' }, options)).rejects.toThrow(message);
  });

  it('is the same offline', async () => {
    serve(splits);
    const fetched = await readHubCorpus('hf:org/data/en', { use: 'train' }, options);
    const offline = { ...options, settings: { cache, endpoint: hub.endpoint, isOffline: true } };
    hub.requests.length = 0;
    expect(await readHubCorpus('hf:org/data/en', { use: 'train' }, offline)).toEqual(fetched);
    // It knows of the splits that are not in the cache.
    await expect(readHubCorpus('hf:org/data/en', { use: 'held-out' }, offline)).rejects.toThrow(
      /HUB_OFFLINE.*test-00000-of-00001\.parquet of it is not in/,
    );
    await rm(join(cache, 'datasets--org--data', '.lowbit'), { recursive: true });
    expect(await readHubCorpus('hf:org/data/en', { use: 'train' }, offline)).toMatchObject({ corpus: { documents: ['a', 'b', 'c'] } });
    expect(hub.requests).toEqual([]);
  });
});

describe('one file of a dataset in parts, offline', () => {
  const offline = (): HubOptions => ({ ...options, settings: { cache, endpoint: hub.endpoint, isOffline: true } });

  it.each(['train-00001-of-00041.parquet', 'data/train-00001-of-00041-0a1b2c3d4e5f6071.parquet'])('is read: %s', async (name) => {
    serve({ [name]: text('a', 'b'), [name.replace('00001', '00000')]: text('c') });
    const reference = `hf:org/data/${name}`;
    const fetched = await readHubCorpus(reference, { use: 'all' }, options);
    expect(await readHubCorpus(reference, { use: 'all' }, offline())).toEqual(fetched);
    expect(await localFile(reference, offline())).toBe(await localFile(reference, options));
    const folder = reference.slice(0, reference.lastIndexOf('/'));
    await expect(readHubCorpus(folder, { use: 'train' }, offline())).rejects.toThrow(/HUB_OFFLINE.*train-00000-of-00041/);
    // As if another program had fetched it: nothing says which files there are, but the name of this one.
    await rm(join(cache, 'datasets--org--data', '.lowbit'), { recursive: true });
    expect(await readHubCorpus(reference, { use: 'all' }, offline())).toEqual(fetched);
    await expect(readHubCorpus(folder, { use: 'train' }, offline())).rejects.toThrow(/HUB_OFFLINE.*train-00000-of-00041.* are not in/);
  });
});

describe('localFile', () => {
  it('fetches the file that a reference names, and leaves paths as they are', async () => {
    serve({ 'a/b.tsv': 'x\ty', 'c.jsonl': '{}' });
    expect(await readFile(await localFile('hf:org/data/a/b.tsv', options), 'utf8')).toBe('x\ty');
    expect(downloads()).toEqual(['a/b.tsv']);
    expect(await localFile('/data/c.jsonl', options)).toBe('/data/c.jsonl');
    await expect(localFile('hf:org/data', options)).rejects.toThrow(/HUB_FILES.*names no file/);
    await expect(localFile('hf:org/data/a/c.tsv', options)).rejects.toThrow(/HUB_FILES.*has no file c\.tsv; it has b\.tsv/);
  });
});

describe('openRecords', () => {
  it("finds a task's split in a dataset, and fetches nothing else", async () => {
    serve({
      'ARC-Easy/test-00000-of-00002.parquet': text('a'),
      'ARC-Easy/test-00001-of-00002.parquet': text('b'),
      'ARC-Easy/train-00000-of-00001.parquet': text('c'),
      'ARC-Challenge/test-00000-of-00001.parquet': text('d'),
    });
    for (const [source, place] of [
      ['hf:org/data', { onHub: { folder: 'ARC-Easy', split: 'test' }, isShared: true }],
      ['hf:org/data/ARC-Easy', {}],
    ] as const) {
      const { records, name } = await openRecords(source, 'arc_easy', 'test', place, options);
      expect(records.map(({ value }) => value.text)).toEqual(['a', 'b']);
      expect(name).toBe('arc_easy test, 2 parts');
    }
    expect(downloads().sort()).toEqual(['ARC-Easy/test-00000-of-00002.parquet', 'ARC-Easy/test-00001-of-00002.parquet']);
    await expect(openRecords('hf:org/data', 'piqa', 'test', {}, options)).rejects.toMatchObject({ code: 'TASK_MISSING' });
  });
});
