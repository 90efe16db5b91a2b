// The other side of a task process: does what it is told until nobody is left to tell.
import type { TaskMessage, TaskReply } from './process.js';
import { failureOf } from './task.js';

interface TaskServer<Work, Result> {
  /** Called once, before any task: what fails then is not the task's fault. */
  open?(): Promise<unknown>;
  run(work: Work): Promise<Result>;
}

/** Answers every task with its result or its error. To be called by a module that `openTaskProcess` starts. */
export function serveTasks<Work, Result>({ open, run }: TaskServer<Work, Result>): void {
  // A terminal interrupts all its processes; whether this one ends is up to the one that started it.
  process.on('SIGINT', () => undefined);
  process.on('disconnect', () => process.exit());
  process.on('message', async (message: TaskMessage) => {
    const answer = async (): Promise<unknown> => ('open' in message ? void (await open?.()) : run(message.work as Work));
    const reply = await answer().then(
      (result): TaskReply => ({ result }),
      (error: unknown): TaskReply => ({ failure: failureOf(error) }),
    );
    process.send?.(reply);
  });
}
