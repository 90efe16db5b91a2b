// A corpus from a file, read as its ending says.
import type { Corpus } from './corpus.js';
import { readParquetFile } from './parquet.js';
import { type DocumentRule, readJsonlFile, readTextFile } from './text-file.js';

export interface CorpusFileOptions {
  /** Where documents end in a text file. */
  readonly rule?: DocumentRule | undefined;
  /** Of the records of a .jsonl or .parquet file, the one that holds the text. */
  readonly field?: string | undefined;
}

/** Reads a .parquet file, a .jsonl file, or any other as text. Throws as `readParquetFile`, `readJsonlFile` and `readTextFile` do. */
export function readCorpusFile(path: string, { rule = 'whole', field = 'text' }: CorpusFileOptions = {}): Promise<Corpus> {
  if (path.endsWith('.parquet')) return readParquetFile(path, { field });
  return path.endsWith('.jsonl') ? readJsonlFile(path, { field }) : readTextFile(path, { rule });
}
