// Records of datasets from JSON Lines and Parquet files, and where the files of a task are found.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { findRecords, openRecords, readRecords } from '../src/index.js';
import { parquetFile, parquetRecords } from './parquet-file.js';

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'lowbit-records-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

async function file(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(directory, name);
  await mkdir(join(path, '..'), { recursive: true });
  await writeFile(path, content);
  return path;
}

const jsonl = (records: readonly unknown[]): string => records.map((record) => `${JSON.stringify(record)}\n`).join('');

describe('readRecords', () => {
  it('reads the same records from JSON Lines and from Parquet, with lists, fields within fields and whole numbers', async () => {
    const [lines, columns] = [await file('a.jsonl', jsonl(parquetRecords)), await file('a.parquet', parquetFile)];
    for (const path of [lines, columns]) {
      const { records, name, sha256 } = await readRecords(path);
      expect(records.map(({ value }) => value)).toEqual(parquetRecords);
      expect(records[1].where).toBe(`${name}:2`);
      expect(sha256).toMatch(/^[0-9a-f]{64}$/);
    }
  });

  it('passes over empty lines and keeps the numbers of the others', async () => {
    const { records } = await readRecords(await file('gaps.jsonl', '\n{"a":1}\r\n\n{"a":2}'));
    expect(records).toEqual([
      { where: 'gaps.jsonl:2', value: { a: 1 } },
      { where: 'gaps.jsonl:4', value: { a: 2 } },
    ]);
  });

  it.each([
    ['TASK_MISSING', 'none.jsonl', undefined],
    ['TASK_MISSING', 'none.parquet', undefined],
    ['TASK_FILE', 'broken.parquet', 'no parquet'],
    ['TASK_FILE', 'cut.parquet', parquetFile.subarray(0, 400)],
    ['TASK_FILE', 'list.jsonl', '[1]'],
    ['TASK_FILE', 'broken.jsonl', '{"a":'],
    ['TASK_FILE', 'latin.jsonl', Uint8Array.of(0x7b, 0xe9, 0x7d)],
    ['TASK_FILE', 'table.csv', 'a,b'],
    ['TASK_EMPTY', 'empty.jsonl', '\n'],
  ])('%s for %s', async (code, name, content) => {
    const path = content === undefined ? join(directory, name) : await file(name, content);
    await expect(readRecords(path)).rejects.toMatchObject({ code });
  });
});

describe('openRecords', () => {
  it('finds a split beside those of other tasks, in a directory of its own, and in parts, in this order', async () => {
    await file('many/arc.test-00001-of-00002.jsonl', jsonl([{ a: 'not a part' }]));
    await file('many/arc/test-00001-of-00002.jsonl', jsonl([{ a: 3 }]));
    await file('many/arc/test-00000-of-00002.jsonl', jsonl([{ a: 1 }, { a: 2 }]));
    const values = async (): Promise<unknown[]> => {
      const { records } = await openRecords(join(directory, 'many'), 'arc', 'test');
      return records.map(({ value }) => value.a);
    };
    expect(await values()).toEqual([1, 2, 3]);
    await file('many/arc/test.parquet', parquetFile);
    expect(await values()).toEqual([undefined, undefined, undefined]);
    await file('many/arc.test.jsonl', jsonl([{ a: 4 }]));
    expect(await values()).toEqual([4]);
  });

  it('tells parts in another order apart by the digest', async () => {
    const open = async (first: string, second: string): Promise<string> => {
      await file('order/arc/test-0.jsonl', first);
      await file('order/arc/test-1.jsonl', second);
      return (await openRecords(join(directory, 'order'), 'arc', 'test')).sha256;
    };
    expect(await open('{"a":1}', '{"a":2}')).not.toBe(await open('{"a":2}', '{"a":1}'));
  });

  it('finds what lies in the directory of the task itself', async () => {
    await file('ARC-Easy/test-0.jsonl', jsonl([{ a: 1 }]));
    await file('ARC-Easy/test-1.jsonl', jsonl([{ a: 2 }]));
    expect((await openRecords(join(directory, 'ARC-Easy'), 'arc_easy', 'test')).records.map(({ value }) => value.a)).toEqual([1, 2]);
  });

  it('takes files that name no task for those of one task alone', async () => {
    await file('ARC-Easy/validation.jsonl', jsonl([{ a: 3 }]));
    for (const split of ['test', 'validation']) {
      const shared = openRecords(join(directory, 'ARC-Easy'), 'arc_challenge', split, { isShared: true });
      await expect(shared).rejects.toMatchObject({ code: 'TASK_MISSING', message: expect.stringContaining('must name theirs') as string });
    }
    await file('ARC-Easy/arc_challenge.test.jsonl', jsonl([{ a: 5 }]));
    const { records } = await openRecords(join(directory, 'ARC-Easy'), 'arc_challenge', 'test', { isShared: true });
    expect(records.map(({ value }) => value.a)).toEqual([5]);
  });

  it("finds the dataset's own names for folder and split", async () => {
    for (const split of ['validation_matched', 'validation_mismatched', 'validation'])
      await file(`glue/mnli/${split}-00000-of-00001.jsonl`, jsonl([{ a: split }]));
    const open = async (task: string, split: string): Promise<unknown[]> => {
      const place = { onHub: { folder: 'mnli', split }, isShared: true };
      return (await openRecords(join(directory, 'glue'), task, 'validation', place)).records.map(({ value }) => value.a);
    };
    expect(await open('mnli_mismatch', 'validation_mismatched')).toEqual(['validation_mismatched']);
    // The task's own name comes first.
    expect(await open('mnli', 'validation_matched')).toEqual(['validation']);
    const alone = { onHub: { folder: 'mnli', split: 'validation_matched' } };
    await rm(join(directory, 'glue', 'mnli', 'validation-00000-of-00001.jsonl'));
    expect(await findRecords(join(directory, 'glue', 'mnli'), 'mnli', 'validation', alone)).toEqual([
      join(directory, 'glue', 'mnli', 'validation_matched-00000-of-00001.jsonl'),
    ]);
  });

  it.each([
    ['a file', ['arc.test.jsonl', 'arc.test.parquet']],
    ['a file in a folder', ['arc/test.jsonl', 'arc/test.parquet']],
    ['parts', ['arc/test-0.jsonl', 'arc/test-0.parquet', 'arc/test-1.jsonl']],
  ])('TASK_FILE for a split that lies there twice, as %s', async (what, names) => {
    for (const name of names) await file(join('twice', what, name), name.endsWith('.parquet') ? parquetFile : jsonl([{ a: 1 }]));
    const failed = expect(openRecords(join(directory, 'twice', what), 'arc', 'test')).rejects;
    await failed.toMatchObject({ code: 'TASK_FILE', message: expect.stringContaining('several kinds of files') as string });
  });

  it('TASK_FILE for a split of which a part is missing', async () => {
    await file('missing/arc/test-00001-of-00002.jsonl', jsonl([{ a: 1 }]));
    const failed = expect(openRecords(join(directory, 'missing'), 'arc', 'test')).rejects;
    await failed.toMatchObject({ code: 'TASK_FILE', message: expect.stringContaining('has 1 of 2 parts') as string });
  });

  it('says what it looked for', async () => {
    const failed = expect(openRecords(directory, 'piqa', 'validation')).rejects;
    await failed.toMatchObject({ code: 'TASK_MISSING', message: expect.stringContaining('piqa.validation.jsonl') as string });
  });
});

describe("'hf:owner/name'", () => {
  beforeEach(() => void vi.stubEnv('HF_HUB_OFFLINE', '1').stubEnv('HF_HUB_CACHE', join(directory, 'hub')));
  afterEach(() => void vi.unstubAllEnvs());

  it('is offline what lies in the cache of the hub, of the revision that main was', async () => {
    const cached = 'hub/datasets--allenai--ai2_arc';
    await file(`${cached}/refs/main`, 'abc');
    await file(`${cached}/snapshots/abc/ARC-Easy/test-00000-of-00001.parquet`, parquetFile);
    await file(`${cached}/snapshots/old/ARC-Easy/test-00000-of-00001.parquet`, 'no parquet');
    await file(`${cached}/snapshots/abc/sst2/validation-00000-of-00001.parquet`, parquetFile);
    expect((await openRecords('hf:allenai/ai2_arc/ARC-Easy', 'arc_easy', 'test')).records).toHaveLength(3);
    expect((await openRecords('hf:allenai/ai2_arc', 'sst2', 'validation')).records).toHaveLength(3);
  });

  it.each([
    ['HUB_OFFLINE', 'hf:nobody/nothing'],
    ['HUB_OFFLINE', 'hf:allenai/ai2_arc/None'],
    ['HUB_REFERENCE', 'hf:allenai'],
    ['HUB_REFERENCE', 'hf:allenai/../x'],
  ])('%s for %s', async (code, reference) => {
    await expect(openRecords(reference, 'arc_easy', 'test')).rejects.toMatchObject({ code });
  });
});
