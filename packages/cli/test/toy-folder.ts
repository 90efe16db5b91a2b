// The folder that the tests of a file run the command in.
import { randomUUID } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { runCommandLine } from '../src/program.js';
import { recordingTerminal, writeToyCheckpoint } from './toy-checkpoint.js';

/** Sixty lines. */
export const TEXT = Array.from({ length: 60 }, (_, i) => `Line ${i}: the quick brown fox jumps over the lazy dog ${i * 7} times.`).join(
  '\n',
);

/** The path of an empty folder, made before the tests of a file and removed after them. */
export function emptyFolder(): string {
  const folder = join(tmpdir(), `lowbit-cli-${randomUUID()}`);
  beforeAll(() => mkdir(folder));
  afterAll(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** Such a folder with a model in `toy` and a text in `text.txt`. */
export function toyFolder(text = TEXT): string {
  const folder = emptyFolder();
  beforeAll(async () => {
    await writeToyCheckpoint(folder);
    await writeFile(join(folder, 'text.txt'), text);
  });
  return folder;
}

/** How a command ended, and what it wrote. */
export interface Outcome {
  readonly code: number;
  readonly output: string;
  readonly errors: string;
}

/** Runs a command, until the signal is aborted. */
export async function runIn(folder: string, words: readonly string[], signal = new AbortController().signal): Promise<Outcome> {
  const terminal = recordingTerminal();
  const code = await runCommandLine({ arguments: words, terminal, directory: folder, signal });
  return { code, output: terminal.output(), errors: terminal.errors() };
}

/** Runs commands that begin with the same words, as `lowbit` does with those that follow. */
export function commandIn(folder: string, ...first: readonly string[]): (...words: readonly string[]) => Promise<Outcome> {
  return (...words) => runIn(folder, [...first, ...words]);
}
