// Text from Parquet files, against what was written into them.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readCorpusFile, readParquetFile, readTaskFile } from '../src/index.js';
import { parquetFile } from './parquet-file.js';
import { parquetOf } from './parquet-writer.js';

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'lowbit-parquet-'));
});
afterAll(() => rm(directory, { recursive: true }));

async function file(name: string, bytes: Uint8Array | string): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, bytes);
  return path;
}

it('readTaskFile reads examples, numbers and truths as texts', async () => {
  const { rows, name } = await readTaskFile(await file('examples.parquet', parquetFile));
  expect(name).toBe('examples.parquet');
  expect(rows.map((row) => [row.field('id'), row.field('label')])).toEqual([
    ['q1', '1'],
    ['q2', '0'],
    ['é3', '-1'],
  ]);
  expect(() => rows[0].field('none')).toThrow(/TASK_FIELD.*examples\.parquet:1: no field 'none'; it has id, label/);
  await expect(readTaskFile(await file('examples.parquet', parquetFile), { columns: ['a'] })).rejects.toThrow(
    /TASK_FILE.*columns are named for/,
  );
});

describe('readParquetFile', () => {
  it('reads a column of all groups of rows, in order', async () => {
    const groups = fc.array(
      fc.array(
        fc.string({ unit: 'grapheme', minLength: 1 }).map((text) => `${text}x`),
        { minLength: 1, maxLength: 20 },
      ),
      { minLength: 1, maxLength: 4 },
    );
    await fc.assert(
      fc.asyncProperty(groups, async (texts) => {
        const path = await file('texts.parquet', parquetOf(texts.map((text) => ({ id: text.map((_, i) => `${i}`), text }))));
        expect((await readParquetFile(path)).documents).toEqual(texts.flat());
      }),
      { numRuns: 30 },
    );
  });

  it('passes over rows without a text, and takes the column that is named', async () => {
    const path = await file('columns.parquet', parquetOf([{ text: ['a', null, ' ', 'b'], 'other.text': ['x', null, 'y', 'z'] }]));
    expect(await readParquetFile(path)).toMatchObject({ name: 'columns.parquet', rule: "field 'text' of each row", documents: ['a', 'b'] });
    expect((await readCorpusFile(path, { field: 'other.text' })).documents).toEqual(['x', 'y', 'z']);
  });

  it('reads what pyarrow wrote, compressed, and texts within a column', async () => {
    const path = await file('arrow.parquet', parquetFile);
    expect((await readParquetFile(path, { field: 'id' })).documents).toEqual(['q1', 'q2', 'é3']);
    const one = await file('chats.parquet', parquetFile);
    await expect(readParquetFile(one, { field: 'choices.text.0' })).rejects.toThrow(
      /CORPUS_PARQUET.*chats\.parquet: row 3: no field 'text\.0' \('0' is missing/,
    );
    await expect(readParquetFile(one, { field: 'choices.label' })).rejects.toThrow(
      /CORPUS_PARQUET.*row 1: field 'label' is object, not a string/,
    );
    await expect(readParquetFile(one, { field: 'choices' })).rejects.toThrow(/CORPUS_PARQUET.*row 1: the value is object, not a string/);
  });

  it('gives the corpus that the same texts give otherwise', async () => {
    const parquet = await file('same.parquet', parquetOf([{ text: ['one', 'two'] }, { text: ['three'] }]));
    const lines = await file('same.jsonl', '{"text":"one"}\n{"text":"two"}\n{"text":"three"}\n');
    expect((await readCorpusFile(parquet)).sha256).toBe((await readCorpusFile(lines)).sha256);
  });

  const whole = parquetOf([{ text: ['a', 'b'], title: ['c', 'd'] }]);
  it.each([
    ['a column that is not there', whole, 'body', /CORPUS_PARQUET.*has no column 'body'; it has text, title\. Name the one/],
    ['a column of numbers', parquetFile, 'label', /CORPUS_PARQUET.*column 'label' holds INT64, not text/],
    ['a column of truths', parquetFile, 'ok', /CORPUS_PARQUET.*column 'ok' holds BOOLEAN, not text/],
    [
      'an unknown compression',
      parquetOf([{ text: ['a'] }], 3),
      'text',
      /CORPUS_PARQUET.*compressed with LZO; it can be read with UNCOMPRESSED, SNAPPY/,
    ],
    ['no end', whole.subarray(0, whole.length - 20), 'text', /CORPUS_PARQUET.*is no Parquet file that can be read/],
    ['nothing', '', 'text', /CORPUS_PARQUET.*is no Parquet file/],
    ['something else', 'text\n'.repeat(100), 'text', /CORPUS_PARQUET.*is no Parquet file/],
    ['a page cut out', Buffer.concat([whole.subarray(0, 10), whole.subarray(30)]), 'text', /CORPUS_PARQUET/],
    ['no text', parquetOf([{ text: ['', null] }]), 'text', /CORPUS_EMPTY/],
  ])('refuses a file with %s', async (_, bytes, field, message) => {
    await expect(readParquetFile(await file('bad.parquet', bytes), { field })).rejects.toThrow(message);
  });

  it('refuses what is no file', async () => {
    await expect(readParquetFile(join(directory, 'absent.parquet'))).rejects.toThrow(/CORPUS_MISSING.*no such file/);
    await expect(readParquetFile(directory)).rejects.toThrow(/CORPUS_MISSING.*cannot be read/);
  });
});
