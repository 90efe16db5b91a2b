// The other side of a task process: does what it is told until nobody is left to tell.
import type { TaskMessage, TaskReply } from './process.js';
import { failureOf } from './task.js';

/** Answers every task with its result or its error. To be called by a module that `openTaskProcess` starts. */
export function serveTasks<Work, Result>(run: (work: Work) => Promise<Result>): void {
  // A terminal interrupts all its processes; whether this one ends is up to the one that started it.
  process.on('SIGINT', () => undefined);
  process.on('disconnect', () => process.exit());
  process.on('message', async ({ work }: TaskMessage) => {
    const reply = await run(work as Work).then(
      (result): TaskReply => ({ result }),
      (error: unknown): TaskReply => ({ failure: failureOf(error) }),
    );
    process.send?.(reply);
  });
}
