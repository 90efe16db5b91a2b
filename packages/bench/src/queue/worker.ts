// The side that does the work: takes tasks from the queue one at a time until it is told to stop.
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { throwIfAborted } from '@lowbit/core';
import { type Job, type Processor, WaitingError, Worker } from 'bullmq';
import { connectQueue, type JobResult, QUEUE_NAME } from './connection.js';
import { ATTEMPTS, failureOf, type Task, taskError } from './task.js';

export interface WorkerOptions {
  readonly url: string;
  /** Seconds without a sign of life after which another worker takes over what this one was doing. */
  readonly lostAfter: number;
  /** Stops the worker; what it is doing goes back into the queue. */
  readonly signal: AbortSignal;
  readonly onNote?: ((text: string) => void) | undefined;
  /** The worker is connected and waits for tasks. */
  readonly onReady?: (() => void) | undefined;
}

/** A server that has gone away is not waited for longer: the task comes back to others when this worker counts as lost. */
const CLOSE_MILLISECONDS = 5_000;

/**
 * Does tasks until the signal is aborted. `run` must leave this process free to show signs of life: it is meant for `openTaskProcess`.
 * @throws QUEUE_URL, QUEUE_UNREACHABLE before it begins.
 */
export async function serveQueue<Work, Result>(
  run: (task: Task<Work>, signal: AbortSignal) => Promise<Result>,
  { url, lostAfter, signal, onNote, onReady }: WorkerOptions,
): Promise<void> {
  throwIfAborted(signal);
  const { queue, connection, label } = await connectQueue(url);
  await queue.close();
  const stop = new AbortController();

  const work = async (job: Job<Task<Work>, JobResult>, token?: string, lost?: AbortSignal): Promise<JobResult> => {
    const task = job.data;
    onNote?.(`${task.label}: begun`);
    try {
      const result = await run(task, AbortSignal.any([stop.signal, ...(lost ? [lost] : [])]));
      onNote?.(`${task.label}: done`);
      return { result };
    } catch (error) {
      if (stop.signal.aborted) {
        await job.moveToWait(token);
        onNote?.(`${task.label}: given back`);
        throw new WaitingError();
      }
      const { code, message } = failureOf(error);
      onNote?.(`${task.label}: ${message}`);
      throw taskError({ code, message });
    }
  };

  let busy: Promise<unknown> = Promise.resolve();
  // It is given a signal only where it takes three parameters.
  const begin: Processor<Task<Work>, JobResult> = (job, token, lost) => {
    const done = work(job, token, lost);
    busy = done.catch(() => undefined);
    return done;
  };
  const worker = new Worker<Task<Work>, JobResult>(QUEUE_NAME, begin, {
    connection,
    lockDuration: 1000 * lostAfter,
    stalledInterval: 500 * lostAfter,
    maxStalledCount: ATTEMPTS - 1,
  });
  // Others have been given its task meanwhile.
  worker.on('lockRenewalFailed', (keys) => {
    for (const key of keys) worker.cancelJob(key);
  });
  let isReachable = true;
  worker.on('error', (error) => {
    if (isReachable) onNote?.(`${label}: ${error.message}`);
  });
  worker.on('ioredis:close', () => {
    if (isReachable && !stop.signal.aborted) onNote?.(`${label}: the connection is lost; trying again`);
    isReachable = false;
  });
  worker.on('ready', () => {
    isReachable = true;
    onReady?.();
  });

  if (!signal.aborted) await once(signal, 'abort');
  // First of all, take no other task: the one that goes back would be the next.
  await worker.pause(true);
  stop.abort();
  const isFree = await Promise.race([busy.then(() => true), sleep(CLOSE_MILLISECONDS, false, { ref: false })]);
  // Of a server that has gone away it would wait for answers.
  await worker.close(!isFree || !isReachable);
}
