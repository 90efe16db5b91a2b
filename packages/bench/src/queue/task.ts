// What is handed to other processes and machines: work as plain data, and what comes back.
import { LowbitError } from '@lowbit/core';

/** Work that can be done anywhere. `Work` and its result must survive JSON. */
export interface Task<Work> {
  /** Equal for work that gives equal results; letters and digits. */
  readonly key: string;
  /** What messages call it. */
  readonly label: string;
  readonly work: Work;
}

/** Why a task has no result. */
export interface TaskFailure {
  readonly code: string;
  readonly message: string;
}

/** Who gets what tasks give. Every task leads to one call of `onResult` or `onFailure`, never to both. */
export interface TaskHooks<Work, Result> {
  onResult(task: Task<Work>, result: Result): void | Promise<void>;
  /** The task was tried as often as it may be. */
  onFailure(task: Task<Work>, failure: TaskFailure): void | Promise<void>;
  onNote?(text: string): void;
}

/** Tries of a task whose process or machine is lost. */
export const ATTEMPTS = 3;

/** Codes that say nothing of a task, but that this machine is none for it: others may do it. */
const UNFIT: readonly string[] = ['PROCESS_START', 'METHOD_VERSION', 'PLAN_FILES'];

export function isUnfit({ code }: TaskFailure): boolean {
  return UNFIT.includes(code);
}

/** The failure that an error's message tells: of errors thrown on purpose it begins with their code. */
export function failureOf(error: unknown): TaskFailure {
  if (error instanceof LowbitError) return { code: error.code, message: error.message };
  return { code: 'INTERNAL', message: error instanceof Error ? error.message : String(error) };
}

/** An error that another process described. */
export function taskError({ code, message }: TaskFailure): LowbitError {
  const prefix = `${code}: `;
  return new LowbitError(code, message.startsWith(prefix) ? message.slice(prefix.length) : message);
}
