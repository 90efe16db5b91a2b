// Tasks for the tests of processes and of the queue, and a journal of who did what.
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { LowbitError } from '@lowbit/core';
import type { TaskModule } from '../../src/queue/process.js';
import type { Task, TaskFailure, TaskHooks } from '../../src/queue/task.js';

export interface TestWork {
  readonly journal: string;
  readonly name: string;
  /** Before it is done. */
  readonly milliseconds: number;
  /** On each of its first tries, in the journal's count: the process ends, or the work throws. */
  readonly dies?: number;
  readonly throws?: number;
  /** Of what it throws. */
  readonly code?: string;
}

/** `worker` is the process that was asked, `pid` the one that does the work. */
export interface JournalEntry {
  readonly name: string;
  readonly event: 'begun' | 'done';
  readonly worker: number;
  readonly pid: number;
}

/** What a task process does. Gives the name of the work back. */
export async function doWork({ journal, name, milliseconds, dies = 0, throws = 0, code = 'TEST_FAILURE' }: TestWork): Promise<string> {
  const write = (event: JournalEntry['event']): void =>
    appendFileSync(journal, `${JSON.stringify({ name, event, worker: process.ppid, pid: process.pid })}\n`);
  write('begun');
  const attempt = begunIn(journal, name);
  if (attempt <= throws) throw new LowbitError(code, `${name}: thrown on attempt ${attempt}`);
  await sleep(milliseconds / 2);
  if (attempt <= dies) {
    process.stderr.write(`${name} gives up\n`);
    process.kill(process.pid, 'SIGKILL');
    await sleep(10_000);
  }
  await sleep(milliseconds / 2);
  write('done');
  return name;
}

export function readJournal(journal: string): JournalEntry[] {
  if (!existsSync(journal)) return [];
  const lines = readFileSync(journal, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as JournalEntry);
}

export function begunIn(journal: string, name: string): number {
  return readJournal(journal).filter((entry) => entry.name === name && entry.event === 'begun').length;
}

export function tasksOf(works: readonly TestWork[]): Task<TestWork>[] {
  return works.map((work) => ({ key: `key-${work.name}`, label: work.name, work }));
}

/** Hooks that keep everything. */
export interface Recorded extends TaskHooks<TestWork, string> {
  readonly results: string[];
  readonly failures: Record<string, TaskFailure>;
  readonly notes: string[];
}

export function recordingHooks(): Recorded {
  const recorded = { results: [] as string[], failures: {} as Record<string, TaskFailure>, notes: [] as string[] };
  return {
    ...recorded,
    onResult: (_, result) => void recorded.results.push(result),
    onFailure({ label }, failure) {
      recorded.failures[label] = failure;
    },
    onNote: (text) => void recorded.notes.push(text),
  };
}

/** How Node runs a TypeScript module. */
export const nodeOptions = ['--import', pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href];

/** The module that does test tasks. */
export const taskModule: TaskModule = { path: fileURLToPath(new URL('task-module.ts', import.meta.url)), nodeOptions };

export async function journalFile(): Promise<{ journal: string; remove: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'lowbit-queue-'));
  return { journal: join(folder, 'journal.jsonl'), remove: () => rm(folder, { recursive: true, force: true }) };
}

export function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** Waits until something is so; tests fail by their own time limit. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(20);
}
