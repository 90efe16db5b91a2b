// Files of JSON lines that are written while a run goes on and may have been cut off when it was killed.
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { LowbitError } from '@lowbit/core';

export function linesOf(items: readonly object[]): string {
  return items.map((item) => `${JSON.stringify(item)}\n`).join('');
}

/** Whole or not at all. */
export function replaceFile(path: string, text: string): void {
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
}

/** `isTorn` when the last line was cut off; it is left out. @throws what reading throws, SyntaxError for a line that is no JSON. */
export function readLines<T>(path: string): { items: T[]; isTorn: boolean } {
  const lines = readFileSync(path, 'utf8').split('\n');
  const isTorn = lines.pop() !== '';
  return { items: lines.map((line) => JSON.parse(line) as T), isTorn };
}

/** Runs what writes into a run's directory. @throws RESULTS_WRITE */
export function writingTo(directory: string, rows: string, write: () => void): void {
  try {
    write();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new LowbitError('RESULTS_WRITE', `${directory}: ${reason}; rows so far are in ${rows}`, { cause: error });
  }
}

/** @throws RESUME_ROWS when what an earlier run left cannot be read. */
export function readingFrom<T>(directory: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const remedy = 'start again with --force, or choose another directory';
    throw new LowbitError('RESUME_ROWS', `${directory}: cannot be read (${reason}); ${remedy}`, { cause: error });
  }
}

/** `changed`: the settings that differ from those of the rows that are there. @throws RESUME_SETTINGS when there are any. */
export function refuseOthers(directory: string, file: string, changed: readonly string[]): void {
  if (changed.length === 0) return;
  const remedy = `repeat the settings of ${file}, choose another output directory, or start again with --force`;
  throw new LowbitError('RESUME_SETTINGS', `${directory}: its rows were made with other settings (${changed.join(', ')}); ${remedy}`);
}

export function union<T>(first: readonly T[], second: readonly T[]): T[] {
  return [...new Set([...first, ...second])];
}
