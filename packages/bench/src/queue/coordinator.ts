// The side that wants results: puts tasks into the queue, waits for workers, and takes each result exactly once.
import { setTimeout as sleep } from 'node:timers/promises';
import { throwIfAborted } from '@lowbit/core';
import type { Job, JobType, Queue } from 'bullmq';
import { connectQueue, type JobResult, type QueueAddress } from './connection.js';
import { ATTEMPTS, type Task, type TaskFailure, type TaskHooks } from './task.js';

export interface QueueOptions extends QueueAddress {
  /** Keys of tasks whose results from before are not wanted: they are removed from the queue. */
  readonly stale?: readonly string[] | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds between looks at the queue. */
  readonly interval?: number | undefined;
}

const FINISHED = ['completed', 'failed'] as const satisfies readonly JobType[];
const PENDING = ['wait', 'delayed', 'prioritized', 'active'] as const satisfies readonly JobType[];

/** Workers that have gone are noticed now and then. */
const LOOKS_BETWEEN_COUNTS = 20;

/** Results nobody came for are gone after a week. */
const KEPT_SECONDS = 7 * 24 * 3600;

/**
 * Has tasks done by workers and returns when all are. A task is in the queue once, by its key; its result is handed on, and then removed.
 * Tasks that the server has lost are put in again, and so is what an earlier run of the same tasks left to do; what workers finished for
 * that run is taken.
 * @throws QUEUE_URL, QUEUE_UNREACHABLE; ABORTED, when what no worker has begun has been taken out of the queue; what the hooks throw.
 */
export async function runQueued<Work, Result>(
  tasks: readonly Task<Work>[],
  { stale = [], signal, interval = 500, ...address }: QueueOptions,
  hooks: TaskHooks<Work, Result>,
): Promise<void> {
  throwIfAborted(signal);
  const { queue, label } = await connectQueue(address);
  const open = new Map(tasks.map((task) => [task.key, task]));
  try {
    await removeStale(queue, stale, open);
    await queue.addBulk([...open.values()].map(jobOf));
    const watch = workersWatch(queue, label, hooks);
    let isReachable = true;
    for (let looks = 0; open.size > 0; looks++) {
      throwIfAborted(signal);
      if (looks % LOOKS_BETWEEN_COUNTS === 0) await watch();
      let finished: Finished[];
      try {
        finished = await look(queue, open);
        if (!isReachable) hooks.onNote?.(`${label}: answers again`);
        isReachable = true;
      } catch (error) {
        // Workers go on without us, and a server that comes back empty is filled again.
        if (isReachable) hooks.onNote?.(`${label}: ${error instanceof Error ? error.message : String(error)}; trying again`);
        isReachable = false;
        finished = [];
      }
      for (const { key, outcome } of finished) {
        const task = open.get(key);
        if (!task) continue;
        open.delete(key);
        if ('failure' in outcome) await hooks.onFailure(task, outcome.failure);
        else await hooks.onResult(task, outcome.result as Result);
        // Only now: of a run that is killed before, the next one finds the result.
        await queue.remove(key).catch(() => undefined);
      }
      if (open.size > 0) await sleep(interval, undefined, { signal }).catch(() => undefined);
    }
  } catch (error) {
    await withdraw(queue, open.keys());
    throw error;
  } finally {
    await queue.close().catch(() => undefined);
  }
}

function jobOf<Work>(task: Task<Work>): Parameters<Queue['addBulk']>[0][number] {
  const kept = { age: KEPT_SECONDS };
  const backoff = { type: 'fixed', delay: 1000 };
  return {
    name: task.label,
    data: task,
    opts: { jobId: task.key, attempts: ATTEMPTS, backoff, removeOnComplete: kept, removeOnFail: kept },
  };
}

async function idsOf(queue: Queue, types: readonly JobType[]): Promise<Set<string>> {
  return new Set(await queue.getRanges([...types], 0, -1));
}

/** Results that are not wanted, and failures of tasks that are about to be tried again. */
async function removeStale(queue: Queue, stale: readonly string[], open: ReadonlyMap<string, unknown>): Promise<void> {
  const [finished, failed] = [await idsOf(queue, FINISHED), await idsOf(queue, ['failed'])];
  const unwanted = [...stale.filter((key) => finished.has(key)), ...[...open.keys()].filter((key) => failed.has(key))];
  for (const key of new Set(unwanted)) await queue.remove(key);
}

interface Finished {
  readonly key: string;
  readonly outcome: JobResult | { readonly failure: TaskFailure };
}

/** Finished tasks; puts those in again that are nowhere: a server without persistence was started again, or another run took them. */
async function look<Work>(queue: Queue, open: ReadonlyMap<string, Task<Work>>): Promise<Finished[]> {
  const ended = await idsOf(queue, FINISHED);
  const known = await idsOf(queue, [...PENDING, ...FINISHED]);
  const finished: Finished[] = [];
  for (const [key, task] of open) {
    if (!known.has(key)) await queue.addBulk([jobOf(task)]);
    if (!ended.has(key)) continue;
    const job: Job<Task<Work>, JobResult | null> | undefined = await queue.getJob(key);
    // Another run may have taken it since, and put it in again.
    if (job?.finishedOn === undefined) continue;
    finished.push({ key, outcome: job.returnvalue ?? { failure: failureIn(task.label, job.failedReason) } });
  }
  return finished;
}

/** Workers give the messages of errors, which begin with a code; what the queue itself says has none. */
function failureIn(label: string, reason: string): TaskFailure {
  const code = /^([A-Z][A-Z0-9_]*): /.exec(reason)?.[1];
  if (code !== undefined) return { code, message: reason };
  return { code: 'WORKER_LOST', message: `WORKER_LOST: ${label}: ${reason}; every worker that tried it was lost in the middle of it` };
}

/** Takes what no worker has begun out of the queue. */
async function withdraw(queue: Queue, keys: Iterable<string>): Promise<void> {
  const waiting = await idsOf(queue, ['wait', 'delayed', 'prioritized']).catch(() => new Set<string>());
  for (const key of keys) if (waiting.has(key)) await queue.remove(key).catch(() => undefined);
}

/** Counts workers, and says so when there are none. */
function workersWatch(queue: Queue, label: string, { onNote }: Pick<TaskHooks<never, never>, 'onNote'>): () => Promise<void> {
  let known: number | undefined;
  return async () => {
    // Some servers do not tell.
    const count = await queue.getWorkersCount().catch(() => undefined);
    const remedy = `start some with lowbit bench-worker --queue ${label}`;
    if (count === 0 && known === undefined) onNote?.(`${label}: no worker of this kind is connected yet; ${remedy}`);
    if (count === 0 && known) onNote?.(`${label}: no worker is connected any more; ${remedy}`);
    known = count ?? known;
  };
}
