// Lines of text files of examples, and the JSON object that a line of JSON Lines holds.
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { LowbitError } from '@lowbit/core';

export interface Line {
  readonly line: string;
  /** 'train.tsv:3', for errors. */
  readonly where: string;
}

/** Lines that are not empty, and the file's digest. */
export interface Lines {
  readonly name: string;
  readonly lines: readonly Line[];
  /** Of the file's bytes. */
  readonly sha256: string;
}

/** @throws TASK_MISSING, TASK_FILE for bytes that are not UTF-8. */
export async function readLines(path: string): Promise<Lines> {
  const bytes = await readFile(path).catch((cause: Error) => {
    throw unreadable(path, cause);
  });
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new LowbitError('TASK_FILE', `${path}: is not UTF-8; convert it, for example with iconv`, { cause });
  }
  const name = basename(path);
  const lines = text.split(/\r?\n/).flatMap((line, i) => (line.trim() === '' ? [] : [{ line, where: `${name}:${i + 1}` }]));
  return { name, lines, sha256: createHash('sha256').update(bytes).digest('hex') };
}

export function unreadable(path: string, cause: Error): LowbitError {
  const isMissing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
  const what = isMissing ? 'no such file; check the path' : `cannot be read (${cause.message})`;
  return new LowbitError('TASK_MISSING', `${path}: ${what}`, { cause });
}

/** @throws TASK_FILE for a line that is no JSON object. */
export function jsonObject({ line, where }: Line): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new LowbitError('TASK_FILE', `${where}: is not JSON (${(cause as Error).message}); every line must hold one JSON object`, {
      cause,
    });
  }
  if (!isRecord(value)) throw new LowbitError('TASK_FILE', `${where}: is no JSON object; every line must hold one`);
  return value;
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
