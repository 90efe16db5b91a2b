// A process that does tasks one after another: native code that crashes, or memory that runs out, ends it and not the one that asked.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { basename } from 'node:path';
import { LowbitError, throwIfAborted } from '@lowbit/core';
import { failureOf, type Task, type TaskFailure, taskError } from './task.js';

/** A module that calls `serveTasks`. */
export interface TaskModule {
  readonly path: string;
  readonly arguments?: readonly string[] | undefined;
  /** Of Node. */
  readonly nodeOptions: readonly string[];
  /** Where it runs. */
  readonly directory?: string | undefined;
}

export interface TaskProcess<Work, Result> {
  /**
   * Starts the process, unless it runs, and has it open what its tasks need.
   * @throws PROCESS_LOST when it ends before it has; ABORTED; what opening throws, by its code.
   */
  open(signal?: AbortSignal): Promise<void>;
  /**
   * One at a time. An aborted signal kills the process; the next task starts another.
   * @throws PROCESS_START when no process can be opened; PROCESS_LOST when it ends before the task; ABORTED; what the task throws, by its code.
   */
  run(task: Task<Work>, signal?: AbortSignal): Promise<Result>;
  close(): void;
}

/** What the process is told: to open what tasks need, or to do one. */
export type TaskMessage = { readonly open: true } | { readonly work: unknown };

/** What it says when it is done. */
export type TaskReply = { readonly result: unknown } | { readonly failure: TaskFailure };

/** Characters of what a lost process said last that its error repeats. */
const LAST_WORDS = 1000;

/** The process starts with its first task, or when it is opened. */
export function openTaskProcess<Work, Result>(module: TaskModule): TaskProcess<Work, Result> {
  let child: ChildProcess | undefined;
  let lastWords = '';

  const start = (): ChildProcess => {
    const { path, arguments: words = [], nodeOptions, directory } = module;
    const made = fork(path, words, { execArgv: [...nodeOptions], cwd: directory, stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
    lastWords = '';
    made.stderr?.setEncoding('utf8').on('data', (text: string) => {
      lastWords = (lastWords + text).slice(-LAST_WORDS);
    });
    // Between tasks: the next one finds out.
    made.on('error', () => undefined);
    child = made;
    return made;
  };
  const stop = (): void => {
    child?.kill('SIGKILL');
    child = undefined;
  };

  /** What the process answers. */
  const ask = async (own: ChildProcess, message: TaskMessage, label: string, signal: AbortSignal | undefined): Promise<unknown> => {
    const listening = new AbortController();
    const heard = (event: string): Promise<unknown[]> => once(own, event, { signal: listening.signal });
    signal?.addEventListener('abort', stop, { once: true });
    try {
      own.send(message);
      // 'close' comes when its last words have been read.
      const ended = heard('close').then(([code, name]) => {
        throw lost(label, `ended with ${name ?? `code ${code}`} before it was done`, lastWords);
      });
      const [reply] = (await Promise.race([heard('message'), ended])) as [TaskReply];
      if ('failure' in reply) throw taskError(reply.failure);
      return reply.result;
    } catch (error) {
      throwIfAborted(signal);
      if (error instanceof LowbitError) throw error;
      throw lost(label, `failed: ${error instanceof Error ? error.message : String(error)}`, lastWords);
    } finally {
      listening.abort();
      signal?.removeEventListener('abort', stop);
    }
  };
  const opened = async (signal: AbortSignal | undefined): Promise<ChildProcess> => {
    throwIfAborted(signal);
    if (child?.connected) return child;
    const own = start();
    try {
      await ask(own, { open: true }, basename(module.path), signal);
    } catch (error) {
      stop();
      throw error;
    }
    return own;
  };

  return {
    async open(signal) {
      await opened(signal);
    },
    async run({ label, work }, signal) {
      const own = await opened(signal).catch((error: unknown) => {
        throwIfAborted(signal);
        throw new LowbitError('PROCESS_START', `${label}: no process for it can be opened: ${failureOf(error).message}`, { cause: error });
      });
      return (await ask(own, { work }, label, signal)) as Result;
    },
    close: stop,
  };
}

function lost(label: string, what: string, lastWords: string): LowbitError {
  const words = lastWords.trim();
  const hint = words === '' ? 'it said nothing; it may have run out of memory' : `it said last: ${words}`;
  return new LowbitError('PROCESS_LOST', `${label}: its process ${what}; ${hint}`);
}
