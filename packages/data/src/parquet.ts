// Corpora from Parquet files: one column, one group of rows at a time.
import { type FileHandle, open } from 'node:fs/promises';
import { basename } from 'node:path';
import { LowbitError } from '@lowbit/core';
import type { FileMetaData } from 'hyparquet';
import { type Corpus, corpusOf } from './corpus.js';
import { textField } from './text-field.js';
import { unreadable } from './text-file.js';

/** What the reader of Parquet files reads from. */
interface ByteSource {
  readonly byteLength: number;
  slice(start: number, end?: number): Promise<ArrayBuffer>;
}

/**
 * One document a row, the text in the column `field`, or at a path within it: 'text', 'messages.0.content'. Rows whose column is null are
 * passed over. Besides the documents no more than a group of rows of that column is in memory.
 * @throws CORPUS_MISSING, CORPUS_EMPTY; CORPUS_PARQUET for what is no Parquet file, or truncated, for a column that is not there or holds no text,
 * and for a compression that is not known.
 */
export async function readParquetFile(
  path: string,
  { field = 'text', name = basename(path) }: { field?: string; name?: string } = {},
): Promise<Corpus> {
  const handle = await open(path).catch((cause: Error) => {
    throw unreadable(path, cause);
  });
  try {
    const documents: string[] = [];
    for await (const text of columnTexts(await byteSource(handle, path), path, field)) documents.push(text);
    return corpusOf(documents, { name, rule: `field '${field}' of each row` });
  } finally {
    await handle.close();
  }
}

async function byteSource(handle: FileHandle, path: string): Promise<ByteSource> {
  const info = await handle.stat();
  if (!info.isFile()) throw unreadable(path, new Error('it is a directory'));
  return {
    byteLength: info.size,
    async slice(start, end = info.size) {
      const bytes = new Uint8Array(Math.max(0, Math.min(end, info.size) - start));
      for (let done = 0; done < bytes.length; ) {
        const { bytesRead } = await handle.read(bytes, done, bytes.length - done, start + done);
        if (bytesRead === 0) throw new Error('the file ended while it was read');
        done += bytesRead;
      }
      return bytes.buffer;
    },
  };
}

async function* columnTexts(file: ByteSource, path: string, field: string): AsyncGenerator<string> {
  // Loaded when a file needs them.
  const [{ parquetMetadataAsync, parquetReadObjects, parquetSchema }, { compressors }] = await Promise.all([
    import('hyparquet'),
    import('hyparquet-compressors'),
  ]);
  const readable = async <T>(work: Promise<T>): Promise<T> =>
    work.catch((cause: Error) => {
      throw failure(path, `is no Parquet file that can be read (${cause.message}); download or convert it again`, cause);
    });
  const metadata = await readable(parquetMetadataAsync(file));
  const columns = parquetSchema(metadata).children.map(({ element }) => element);
  // A name may have dots in it.
  const column = columns.find(({ name }) => name === field) ?? columns.find(({ name }) => field.startsWith(`${name}.`));
  if (!column) {
    const known = columns.map(({ name }) => name).join(', ') || 'none';
    throw failure(path, `has no column '${field}'; it has ${known}. Name the one that holds the text`);
  }
  const { type } = column;
  if (type !== undefined && type !== 'BYTE_ARRAY')
    throw failure(path, `column '${column.name}' holds ${type}, not text; name one that holds text`);
  checkCodec(metadata, column.name, ['UNCOMPRESSED', ...Object.keys(compressors)], path);

  const keys = field.slice(column.name.length).split('.').slice(1);
  let rowStart = 0;
  for (const group of metadata.row_groups) {
    const rowEnd = rowStart + Number(group.num_rows);
    const rows = await readable(parquetReadObjects({ file, metadata, compressors, columns: [column.name], rowStart, rowEnd }));
    for (const [i, row] of rows.entries()) {
      const value: unknown = row[column.name];
      if (value === null || value === undefined) continue;
      const where = `${path}: row ${rowStart + i + 1}`;
      yield textField(value, keys, where, CODE);
    }
    rowStart = rowEnd;
  }
}

function checkCodec({ row_groups: groups }: FileMetaData, column: string, known: readonly string[], path: string): void {
  for (const { columns } of groups) {
    for (const { meta_data: data } of columns) {
      if (!data || data.path_in_schema[0] !== column || known.includes(data.codec)) continue;
      throw failure(
        path,
        `column '${column}' is compressed with ${data.codec ?? 'something unknown'}; it can be read with ${known.join(', ')}: convert it`,
      );
    }
  }
}

const CODE = 'CORPUS_PARQUET';

function failure(path: string, what: string, cause?: Error): LowbitError {
  return new LowbitError(CODE, `${path}: ${what}`, { cause });
}
