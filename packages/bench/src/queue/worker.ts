// The side that does the work: takes tasks from the queue one at a time until it is told to stop.
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { throwIfAborted } from '@lowbit/core';
import { type Job, type Processor, UnrecoverableError, WaitingError, Worker } from 'bullmq';
import { connectQueue, type JobResult, type QueueAddress } from './connection.js';
import { ATTEMPTS, failureOf, isUnfit, type Task, taskError } from './task.js';

export interface WorkerOptions extends QueueAddress {
  /** Seconds without a sign of life after which another worker takes over what this one was doing. */
  readonly lostAfter: number;
  /** Stops the worker; what it is doing goes back into the queue. */
  readonly signal: AbortSignal;
  readonly onNote?: ((text: string) => void) | undefined;
  /** Called when the server has answered, before any task is taken. What it throws ends the worker. */
  readonly prepare?: (() => Promise<void>) | undefined;
  /** The worker is connected and waits for tasks. */
  readonly onReady?: (() => void) | undefined;
  /** Milliseconds before the next task when processes were lost in the middle of two; twice as long with each further one. */
  readonly rest?: number | undefined;
}

const LONGEST_REST = 60_000;

/** A server that has gone away is not waited for longer: the task comes back to others when this worker counts as lost. */
const CLOSE_MILLISECONDS = 5_000;

/**
 * Does tasks until the signal is aborted. `run` must leave this process free to show signs of life: it is meant for `openTaskProcess`.
 * A task whose process is lost is tried again, here or elsewhere; other errors are the task's own and would be the same everywhere.
 * @throws QUEUE_URL, QUEUE_UNREACHABLE, and what `prepare` throws, before it begins; PROCESS_START, METHOD_VERSION, PLAN_FILES when `run`
 * does: such a worker would fail one task after the other faster than others do them, so that it gives the task back and ends.
 */
export async function serveQueue<Work, Result>(
  run: (task: Task<Work>, signal: AbortSignal) => Promise<Result>,
  { url, name, lostAfter, signal, onNote, prepare, onReady, rest = 1000 }: WorkerOptions,
): Promise<void> {
  throwIfAborted(signal);
  const { queue, connection, label } = await connectQueue({ url, name });
  await queue.close();
  await prepare?.();
  throwIfAborted(signal);
  const stop = new AbortController();
  const unfit = new AbortController();
  let losses = 0;

  const work = async (job: Job<Task<Work>, JobResult>, token?: string, lost?: AbortSignal): Promise<JobResult> => {
    const task = job.data;
    const giveBack = async (): Promise<never> => {
      await job.moveToWait(token);
      onNote?.(`${task.label}: given back`);
      throw new WaitingError();
    };
    const either = AbortSignal.any([stop.signal, ...(lost ? [lost] : [])]);
    try {
      // One that has not the memory for its tasks loses them faster than others do them.
      if (losses > 1) await sleep(Math.min(LONGEST_REST, rest * 2 ** (losses - 2)), undefined, { signal: either });
      onNote?.(`${task.label}: begun`);
      const result = await run(task, either);
      losses = 0;
      onNote?.(`${task.label}: done`);
      return { result };
    } catch (error) {
      if (stop.signal.aborted) return await giveBack();
      const failure = failureOf(error);
      onNote?.(`${task.label}: ${failure.message}`);
      if (isUnfit(failure)) {
        // First of all, take no other task: this one would be the next.
        await worker.pause(true);
        unfit.abort(taskError(failure));
        return await giveBack();
      }
      // With its process, or to others that count this worker as lost, a task may come out otherwise.
      if (failure.code === 'PROCESS_LOST') losses++;
      else if (!lost?.aborted) throw new UnrecoverableError(taskError(failure).message);
      throw taskError(failure);
    }
  };

  let busy: Promise<unknown> = Promise.resolve();
  // It is given a signal only where it takes three parameters.
  const begin: Processor<Task<Work>, JobResult> = (job, token, lost) => {
    const done = work(job, token, lost);
    busy = done.catch(() => undefined);
    return done;
  };
  const worker = new Worker<Task<Work>, JobResult>(name, begin, {
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

  const ended = AbortSignal.any([signal, unfit.signal]);
  if (!ended.aborted) await once(ended, 'abort');
  // First of all, take no other task: the one that goes back would be the next.
  await worker.pause(true);
  stop.abort();
  const isFree = await Promise.race([busy.then(() => true), sleep(CLOSE_MILLISECONDS, false, { ref: false })]);
  // Of a server that has gone away it would wait for answers.
  await worker.close(!isFree || !isReachable);
  if (unfit.signal.aborted) throw unfit.signal.reason;
}
