// bench:queue: how much faster two workers on a queue are than one, on small cells that need nothing of each other, and how much two processes
// without a queue are: memory, and the threads that collect garbage and compile beside each process, are shared.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { buildBuiltIn } from '../built-in.js';
import type { CellResult } from '../folder.js';
import { cellKey, cellsOf, makePlan } from '../plan.js';
import { queueName } from '../provenance.js';
import { runQueued } from '../queue/coordinator.js';
import { openTaskProcess, type TaskProcess } from '../queue/process.js';
import { missingForRedis, startRedis } from './redis-server.js';
import { reportBench } from './report.js';

const WIDTHS = [2, 3, 4, 6, 8];

const missing = missingForRedis();
if (missing !== undefined) throw new Error(`${missing}; bench:queue needs it`);

/** One thread each, so that two workers are two cores against one, and no more. */
const engine = { backend: 'onnxruntime:cpu', threads: 1 };
const swept = (method: string) =>
  WIDTHS.map((bits) => ({ name: `${method}-${bits}`, steps: [{ method, options: { bits, groupSize: 32 } }] }));
const plan = await makePlan(
  {
    models: ['tiny'],
    // Long ones first: how they are shared out says little at the end.
    recipes: [...swept('gptq'), ...swept('rtn')],
    evaluators: ['text'],
    seeds: [0],
    calibration: { windows: 16, window: 128 },
    heldOut: { windows: 16, window: 128 },
    engine,
  },
  buildBuiltIn,
);
const tasks = cellsOf(plan).map((cell) => ({ key: cellKey(plan, cell), label: cell.recipe, work: { plan, cell } }));
/** Some of each kind. */
const few = tasks.filter(({ label }) => ['gptq-2', 'gptq-4', 'rtn-2', 'rtn-4'].includes(label));

const sources = (name: string): string => fileURLToPath(new URL(`../../../cli/src/${name}`, import.meta.url));
const nodeOptions = ['--import', pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href];

const limit = await withoutQueue();
const { one, two } = await onQueue();
const [oneSeconds, twoSeconds] = [mean(one), mean(two)];
const ratio = oneSeconds / twoSeconds;
const times = (all: readonly number[]): string => `${all.map((time) => time.toFixed(1)).join(', ')} s for all cells`;
const rows: [string, string][] = [
  ['cells', `${tasks.length}: gptq, rtn and dense on tiny, one thread each`],
  ['one worker', times(one)],
  ['two workers', times(two)],
  ['ratio', `${ratio.toFixed(2)} (bar: at least 1.6 on two idle cores)`],
  ['limit', `${limit.toFixed(2)}: two processes without a queue, each on ${few.length} of the cells at once, to one`],
];
reportBench('queue', rows, { cells: tasks.length, oneSeconds, twoSeconds, workersRatio: ratio, processesRatio: limit });

/** What two processes get done in the time in which one gets 1 done. */
async function withoutQueue(): Promise<number> {
  const options = JSON.stringify({ engine, isOffline: true, isElsewhere: false });
  const open = (): TaskProcess<unknown, CellResult> =>
    openTaskProcess({ path: sources('cell-process.ts'), arguments: [options], nodeOptions });
  const [first, second] = [open(), open()];
  const run = async (cells: TaskProcess<unknown, CellResult>): Promise<void> => {
    for (const task of few) await cells.run(task);
  };
  const alone = () => secondsOf(() => run(first));
  const both = () => secondsOf(() => Promise.all([run(first), run(second)]));
  try {
    // They prepare model and text.
    await both();
    const all = [await alone(), await both(), await both(), await alone()];
    return (2 * (all[0] + all[3])) / (all[1] + all[2]);
  } finally {
    first.close();
    second.close();
  }
}

/** Seconds for all cells, of one worker and of two: one, two, two, one, so that a machine that grows slower meanwhile is neither's gain. */
async function onQueue(): Promise<{ one: number[]; two: number[] }> {
  const redis = await startRedis();
  const workers: ChildProcess[] = [];
  const address = { url: redis.url, name: queueName(engine.backend), interval: 100 };
  const fail = (_: unknown, { message }: { readonly message: string }): never => {
    throw new Error(message);
  };
  const round = () => secondsOf(() => runQueued(tasks, address, { onResult: () => undefined, onFailure: fail }));
  try {
    workers.push(await startWorker(redis.url));
    // It starts its process, and prepares model and text.
    await round();
    const one = [await round()];
    workers.push(await startWorker(redis.url));
    await round();
    const two = [await round(), await round()];
    await stop(workers.pop());
    one.push(await round());
    return { one, two };
  } finally {
    for (const worker of workers) await stop(worker);
    await redis.stop();
  }
}

/** lowbit bench-worker as a process, when it waits for cells. */
async function startWorker(url: string): Promise<ChildProcess> {
  const words = [...nodeOptions, sources('bin.ts'), 'bench-worker', '--queue', url, '--backend', engine.backend];
  const worker = spawn(process.execPath, words, { stdio: ['ignore', 'inherit', 'pipe'] });
  for await (const text of worker.stderr.setEncoding('utf8').iterator({ destroyOnReturn: false })) {
    if (!String(text).includes('waiting for cells')) continue;
    worker.stderr.resume();
    return worker;
  }
  throw new Error('lowbit bench-worker ended before it waited for cells');
}

async function stop(worker: ChildProcess | undefined): Promise<void> {
  if (!worker || worker.exitCode !== null) return;
  const ended = once(worker, 'exit');
  worker.kill('SIGTERM');
  await ended;
}

async function secondsOf(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

function mean(all: readonly number[]): number {
  return all.reduce((sum, one) => sum + one, 0) / all.length;
}
