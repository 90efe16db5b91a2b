// The queue against a real Redis server: nothing is lost and nothing comes twice, whoever is killed.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { LowbitError } from '@lowbit/core';
import { Queue, Worker } from 'bullmq';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { connectQueue, type QueueAddress } from '../../src/queue/connection.js';
import { runQueued } from '../../src/queue/coordinator.js';
import type { Task } from '../../src/queue/task.js';
import { serveQueue, type WorkerOptions } from '../../src/queue/worker.js';
import { freePort, missingForRedis, type RedisServer, startRedis } from '../../src/speed/redis-server.js';
import {
  begunIn,
  doWork,
  isAlive,
  journalFile,
  nodeOptions,
  type Recorded,
  readJournal,
  recordingHooks,
  type TestWork,
  tasksOf,
  until,
} from './tasks.js';

// Several processes start one after another, each of which reads sources: a busy machine takes its time.
vi.setConfig({ testTimeout: 600_000, hookTimeout: 300_000 });

const missing = missingForRedis();
/** Of the queue. */
const name = 'lowbit-test';
const program = fileURLToPath(new URL('worker-program.ts', import.meta.url));

describe.skipIf(missing !== undefined)(`a queue on Redis${missing === undefined ? '' : ` (${missing})`}`, () => {
  let redis: RedisServer;
  let journal: string;
  let remove: () => Promise<void>;
  /** What each test leaves running is stopped after it. */
  let cleanUp: (() => unknown)[];
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis?.stop());
  beforeEach(async () => {
    ({ journal, remove } = await journalFile());
    cleanUp = [];
  });
  afterEach(async () => {
    for (const step of cleanUp) await step();
    const { queue } = await connectQueue(address());
    await queue.obliterate({ force: true });
    await queue.close();
    await remove();
  });

  const work = (name: string, more: Partial<TestWork> = {}): TestWork => ({ journal, name, milliseconds: 20, ...more });
  const names = (count: number): string[] => Array.from({ length: count }, (_, i) => `cell ${i}`);

  const address = (): QueueAddress => ({ url: redis.url, name });

  /** A worker in this process, until the test ends; `ended` is when it does, and `notes` what it says. */
  function startWorker(more: Partial<WorkerOptions> = {}): { ended: Promise<void>; notes: string[] } {
    const stop = new AbortController();
    const notes: string[] = [];
    const onNote = (text: string): void => void notes.push(text);
    const options = { ...address(), lostAfter: 2, signal: stop.signal, onNote, ...more };
    const ended = serveQueue<TestWork, string>(({ work }) => doWork(work), options);
    // A test that fails before it looks at the outcome has its own error.
    ended.catch(() => undefined);
    cleanUp.push(async () => {
      stop.abort();
      await ended.catch(() => undefined);
    });
    return { ended, notes };
  }

  /** A worker as a process with a process of its own for tasks. */
  async function startWorkerProcess(lostAfter = 2): Promise<ChildProcess> {
    const child = fork(program, [redis.url, name, String(lostAfter)], { execArgv: nodeOptions });
    const ended = once(child, 'close');
    cleanUp.push(async () => {
      child.kill('SIGKILL');
      await ended;
    });
    await once(child, 'message');
    return child;
  }

  function start(tasks: readonly Task<TestWork>[], hooks: Recorded, more: { stale?: readonly string[] } = {}) {
    const abort = new AbortController();
    const ended = runQueued(tasks, { ...address(), signal: abort.signal, interval: 50, ...more }, hooks);
    // A test that fails before it looks at the outcome has its own error.
    ended.catch(() => undefined);
    cleanUp.push(() => abort.abort());
    return { abort, ended };
  }

  async function counts(): Promise<Record<string, number>> {
    const queue = new Queue(name, { connection: { url: redis.url } });
    const found = await queue.getJobCounts('wait', 'active', 'delayed', 'completed', 'failed');
    await queue.close();
    return found;
  }

  it('loses nothing and gives nothing twice when one of two workers is killed in the middle', async () => {
    const workers = [await startWorkerProcess(), await startWorkerProcess()];
    const hooks = recordingHooks();
    const { ended } = start(tasksOf(names(10).map((name) => work(name, { milliseconds: 300 }))), hooks);
    const busy = () => {
      const last = readJournal(journal).filter(({ worker }) => worker === workers[0].pid);
      return last.length > 2 && last.at(-1)?.event === 'begun' ? last.at(-1) : undefined;
    };
    await until(() => busy() !== undefined);
    const interrupted = busy()!;
    workers[0].kill('SIGKILL');
    await ended;
    expect([...hooks.results].sort()).toEqual(names(10));
    expect(hooks.failures).toEqual({});
    const begun = readJournal(journal).filter(({ event }) => event === 'begun');
    // The other worker did what the killed one had begun, and nothing else was begun twice.
    expect(begun.filter(({ name }) => name === interrupted.name).map(({ worker }) => worker)).toEqual(workers.map(({ pid }) => pid));
    expect(begun).toHaveLength(11);
    expect(await counts()).toEqual({ wait: 0, active: 0, delayed: 0, completed: 0, failed: 0 });
    await until(() => !isAlive(interrupted.pid));
  });

  it('gives back at once what a worker was doing when it is told to stop', async () => {
    const first = await startWorkerProcess(600);
    const hooks = recordingHooks();
    const { ended } = start(tasksOf([work('a', { milliseconds: 2000 })]), hooks);
    await until(() => begunIn(journal, 'a') === 1);
    first.kill('SIGTERM');
    await once(first, 'close');
    expect(await counts()).toMatchObject({ wait: 1, active: 0 });
    startWorker({ lostAfter: 600 });
    await ended;
    expect(hooks.results).toEqual(['a']);
    expect(begunIn(journal, 'a')).toBe(2);
  });

  it('tries again what loses its process, and not what throws: that would be the same', async () => {
    const { notes } = startWorker({ rest: 1 });
    const hooks = recordingHooks();
    const lost = { code: 'PROCESS_LOST' };
    const works = [
      work('once', { ...lost, throws: 1 }),
      work('always', { ...lost, throws: 9 }),
      work('wrong', { throws: 9 }),
      work('never'),
    ];
    await start(tasksOf(works), hooks).ended;
    expect([...hooks.results].sort()).toEqual(['never', 'once']);
    expect(hooks.failures).toEqual({
      always: { code: 'PROCESS_LOST', message: 'PROCESS_LOST: always: thrown on attempt 3' },
      wrong: { code: 'TEST_FAILURE', message: 'TEST_FAILURE: wrong: thrown on attempt 1' },
    });
    expect(['once', 'always', 'wrong', 'never'].map((one) => begunIn(journal, one))).toEqual([2, 3, 1, 1]);
    expect(notes).toContain('wrong: TEST_FAILURE: wrong: thrown on attempt 1');
  });

  it('gives what throws no code as such, and no worker as lost', async () => {
    const stop = new AbortController();
    const run = async (): Promise<string> => {
      throw new TypeError('x is not a function');
    };
    const worker = serveQueue<TestWork, string>(run, { ...address(), lostAfter: 2, signal: stop.signal });
    const hooks = recordingHooks();
    await start(tasksOf([work('a')]), hooks).ended;
    expect(hooks.failures).toEqual({ a: { code: 'INTERNAL', message: 'INTERNAL: x is not a function' } });
    stop.abort();
    await worker;
  });

  it.each(['PROCESS_START', 'METHOD_VERSION', 'PLAN_FILES'])(
    'stops a worker that is none for its task, which others get (%s)',
    async (code) => {
      const unfit = startWorker();
      const hooks = recordingHooks();
      const { ended } = start(tasksOf(names(3).map((one) => work(one, { throws: 1, code }))), hooks);
      await expect(unfit.ended).rejects.toMatchObject({ code, message: expect.stringContaining('thrown on attempt 1') as string });
      expect(hooks.failures).toEqual({});
      expect(readJournal(journal)).toHaveLength(1);
      // On the next one all of them are at their second try at least.
      for (const one of names(3)) await doWork(work(one, { throws: 1 })).catch(() => undefined);
      startWorker();
      await ended;
      expect([...hooks.results].sort()).toEqual(names(3));
    },
  );

  it('says when the last worker has gone', async () => {
    const stop = new AbortController();
    const untilStopped = (signal: AbortSignal): Promise<string> =>
      new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('stopped')), { once: true }));
    const worker = serveQueue<TestWork, string>(({ label, work }, signal) => (label === 'b' ? untilStopped(signal) : doWork(work)), {
      ...{ ...address(), lostAfter: 600, signal: stop.signal },
    });
    const { queue } = await connectQueue(address());
    while ((await queue.getWorkersCount()) === 0) await sleep(20);
    await queue.close();
    const hooks = recordingHooks();
    const { ended } = start(tasksOf([work('a'), work('b')]), hooks);
    await until(() => hooks.results.length > 0);
    expect(hooks.notes).toEqual([]);
    stop.abort();
    await worker;
    await until(() => hooks.notes.some((note) => note.includes('no worker is connected any more')));
    startWorker();
    await ended;
  });

  it('takes no task when it cannot be prepared', async () => {
    const hooks = recordingHooks();
    start(tasksOf([work('a')]), hooks);
    const { ended } = startWorker({ prepare: () => Promise.reject(new LowbitError('BACKEND_UNAVAILABLE', 'no driver')) });
    await expect(ended).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
    await until(() => hooks.notes.length > 0);
    expect(await counts()).toMatchObject({ wait: 1, active: 0, failed: 0 });
  });

  it('leaves tasks to workers of their own kind', async () => {
    startWorker({ name: 'lowbit-other' });
    const hooks = recordingHooks();
    const { ended } = start(tasksOf([work('a')]), hooks);
    await until(() => hooks.notes.some((note) => note.includes('no worker of this kind')));
    startWorker();
    await ended;
    expect(hooks.results).toEqual(['a']);
  });

  it('gives up a task that takes every worker down', async () => {
    let begun = 0;
    // As workers that die: they never finish, and show no sign of life.
    const dying = new Worker(name, () => new Promise(() => void begun++), {
      ...{ connection: { url: redis.url }, lockDuration: 100, stalledInterval: 100 },
      ...{ skipLockRenewal: true, concurrency: 9, maxStalledCount: 2 },
    });
    cleanUp.push(() => dying.close(true));
    const hooks = recordingHooks();
    await start(tasksOf([work('a')]), hooks).ended;
    expect(begun).toBe(3);
    expect(hooks.failures).toEqual({ a: { code: 'WORKER_LOST', message: expect.stringContaining('WORKER_LOST: a: ') as unknown } });
  });

  it('takes what no worker has begun out of the queue when it is cancelled, and finds what was begun the next time', async () => {
    startWorker();
    const works = names(3).map((name) => work(name, { milliseconds: 600 }));
    const first = recordingHooks();
    const { abort, ended } = start(tasksOf(works), first);
    await until(() => readJournal(journal).length > 0);
    abort.abort();
    await expect(ended).rejects.toMatchObject({ code: 'ABORTED' });
    expect(first.results).toEqual([]);
    expect(await counts()).toMatchObject({ wait: 0, delayed: 0, active: 1 });

    await until(() => readJournal(journal).some(({ event }) => event === 'done'));
    const second = recordingHooks();
    await start(tasksOf(works), second).ended;
    expect([...second.results].sort()).toEqual(names(3));
    expect(names(3).map((name) => begunIn(journal, name))).toEqual([1, 1, 1]);
  });

  it('removes results from before that are not wanted', async () => {
    startWorker();
    const tasks = tasksOf([work('a')]);
    const { queue } = await connectQueue(address());
    await queue.add('a', tasks[0], { jobId: tasks[0].key });
    await until(() => readJournal(journal).some(({ event }) => event === 'done'));
    await queue.close();
    const hooks = recordingHooks();
    await start(tasks, hooks, { stale: [tasks[0].key] }).ended;
    expect(hooks.results).toEqual(['a']);
    expect(begunIn(journal, 'a')).toBe(2);
  });

  it('puts in again what the server has lost', async () => {
    const hooks = recordingHooks();
    const { ended } = start(tasksOf([work('a'), work('b')]), hooks);
    await until(() => hooks.notes.some((note) => note.includes('bench-worker')));
    const { queue } = await connectQueue(address());
    expect((await queue.getRanges(['wait'], 0, -1)).sort()).toEqual(['key-a', 'key-b']);
    await queue.obliterate({ force: true });
    await queue.close();
    startWorker();
    await ended;
    expect([...hooks.results].sort()).toEqual(['a', 'b']);
  });

  it('goes on when the server is stopped in the middle and comes back empty', async () => {
    const port = await freePort();
    const url = `redis://127.0.0.1:${port}`;
    const first = await startRedis(port);
    const stop = new AbortController();
    const worker = serveQueue<TestWork, string>(({ work }) => doWork(work), { url, name, lostAfter: 2, signal: stop.signal });
    const hooks = recordingHooks();
    const running = runQueued(tasksOf(names(4).map((name) => work(name, { milliseconds: 300 }))), { url, name, interval: 50 }, hooks);
    await until(() => hooks.results.length === 1 && readJournal(journal).at(-1)?.event === 'begun');
    await first.stop();
    await until(() => hooks.notes.some((note) => note.includes('trying again')));
    const second = await startRedis(port);
    await running;
    expect([...hooks.results].sort()).toEqual(names(4));
    expect(hooks.failures).toEqual({});
    stop.abort();
    await worker;
    await second.stop();
  });

  it('stops a worker whose server is gone', async () => {
    const port = await freePort();
    const server = await startRedis(port);
    const stop = new AbortController();
    const url = `redis://127.0.0.1:${port}`;
    const run = async (_: unknown, signal: AbortSignal): Promise<string> => {
      stop.abort();
      await server.stop();
      throw signal.reason;
    };
    const worker = serveQueue<TestWork, string>(run, { url, name, lostAfter: 2, signal: stop.signal });
    const hooks = recordingHooks();
    const abort = new AbortController();
    const running = runQueued(tasksOf([work('a')]), { url, name, interval: 50, signal: abort.signal }, hooks);
    const cancelled = expect(running).rejects.toMatchObject({ code: 'ABORTED' });
    await worker;
    abort.abort();
    await cancelled;
  });

  it('lets two runs of the same tasks have a result each', async () => {
    startWorker();
    const tasks = tasksOf(names(4).map((name) => work(name)));
    const both = [recordingHooks(), recordingHooks()];
    await Promise.all(both.map((hooks) => start(tasks, hooks).ended));
    for (const hooks of both) expect([...hooks.results].sort()).toEqual(names(4));
  });
});
