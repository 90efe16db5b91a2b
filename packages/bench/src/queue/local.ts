// Tasks on this machine: some processes that take the next task as soon as they are free.
import { throwIfAborted } from '@lowbit/core';
import { openTaskProcess, type TaskModule } from './process.js';
import { ATTEMPTS, failureOf, type Task, type TaskHooks } from './task.js';

export interface LocalOptions {
  readonly module: TaskModule;
  /** Processes at a time. */
  readonly workers: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs every task; one whose process is lost is tried again, after the others. An error of the task itself is not: it would be the same.
 * @throws ABORTED, and what the hooks throw, when the processes have been stopped.
 */
export async function runInProcesses<Work, Result>(
  tasks: readonly Task<Work>[],
  { module, workers, signal }: LocalOptions,
  hooks: TaskHooks<Work, Result>,
): Promise<void> {
  const waiting = tasks.map((task) => ({ task, attempt: 1 }));
  const failed = new AbortController();
  const either = signal ? AbortSignal.any([signal, failed.signal]) : failed.signal;

  const takeTurns = async (): Promise<void> => {
    const process = openTaskProcess<Work, Result>(module);
    try {
      for (let next = waiting.shift(); next; next = waiting.shift()) {
        const { task, attempt } = next;
        const outcome = await process.run(task, either).then(
          (result) => ({ result }),
          (error: unknown) => ({ error }),
        );
        throwIfAborted(either);
        if ('result' in outcome) {
          await hooks.onResult(task, outcome.result);
          continue;
        }
        const { code, message } = failureOf(outcome.error);
        const isLost = code === 'PROCESS_LOST' || code === 'PROCESS_START';
        if (isLost) hooks.onNote?.(message);
        if (isLost && attempt < ATTEMPTS) waiting.push({ task, attempt: attempt + 1 });
        else await hooks.onFailure(task, { code, message });
      }
    } catch (error) {
      failed.abort(error);
      throw error;
    } finally {
      process.close();
    }
  };

  // All have stopped before an error is thrown: the first one, which stopped the others.
  await Promise.allSettled(Array.from({ length: Math.min(workers, tasks.length) }, takeTurns));
  throwIfAborted(signal);
  if (failed.signal.aborted) throw failed.signal.reason;
}
