// bench:queue: how much faster two workers on a queue are than one, on small cells that need nothing of each other.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { buildBuiltIn } from '../built-in.js';
import type { CellResult } from '../folder.js';
import { type BenchPlan, cellKey, cellsOf, makePlan } from '../plan.js';
import { queueName } from '../provenance.js';
import { runQueued } from '../queue/coordinator.js';
import { median } from './layer.js';
import { missingForRedis, startRedis } from './redis-server.js';
import { reportBench } from './report.js';

const ROUNDS = 3;
const WIDTHS = [2, 3, 4, 6, 8];
const GROUPS = [16, 32];

const missing = missingForRedis();
if (missing !== undefined) throw new Error(`${missing}; bench:queue needs both redis-server and a client for it`);

const swept = (method: string, groups: readonly number[]) =>
  WIDTHS.flatMap((bits) =>
    groups.map((groupSize) => ({ name: `${method}-${bits}-g${groupSize}`, steps: [{ method, options: { bits, groupSize } }] })),
  );
const plan: BenchPlan = await makePlan(
  {
    models: ['tiny'],
    // Long ones first: how they are shared out says little at the end.
    recipes: [...swept('gptq', GROUPS), ...swept('rtn', [32])],
    evaluators: ['text'],
    seeds: [0],
    calibration: { windows: 64, window: 128 },
    heldOut: { windows: 16, window: 128 },
    // One each, so that two workers are two cores against one, and no more.
    engine: { backend: 'onnxruntime:cpu', threads: 1 },
  },
  buildBuiltIn,
);
const tasks = cellsOf(plan).map((cell) => ({ key: cellKey(plan, cell), label: cell.recipe, work: { plan, cell } }));

const redis = await startRedis();
const address = { url: redis.url, name: queueName('cpu') };
const workers: ChildProcess[] = [];
try {
  await startWorker();
  // It starts its process, and prepares model and text.
  await seconds();
  const one = await repeated();
  await startWorker();
  await seconds();
  const two = await repeated();
  await stopWorker();
  // Again, behind: a machine that grows slower or faster meanwhile is neither's gain.
  one.push(...(await repeated()));
  const times = (all: readonly number[]): string => `${all.map((time) => time.toFixed(1)).join(', ')} s for all cells`;
  const [oneSeconds, twoSeconds] = [median(one), median(two)];
  const rows: [string, string][] = [
    ['cells', `${tasks.length}: gptq, rtn and dense on tiny, one thread each`],
    ['one worker', times(one)],
    ['two workers', times(two)],
    ['ratio', `${(oneSeconds / twoSeconds).toFixed(2)} (bar: at least 1.6 on two idle cores)`],
  ];
  reportBench('queue', rows, { cells: tasks.length, oneSeconds, twoSeconds, workersRatio: oneSeconds / twoSeconds });
} finally {
  while (workers.length > 0) await stopWorker();
  await redis.stop();
}

/** lowbit bench-worker as a process, when it waits for cells. */
async function startWorker(): Promise<void> {
  const bin = fileURLToPath(new URL('../../../cli/src/bin.ts', import.meta.url));
  const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
  const words = ['--import', tsx, bin, 'bench-worker', '--queue', redis.url];
  const worker = spawn(process.execPath, words, { stdio: ['ignore', 'inherit', 'pipe'] });
  workers.push(worker);
  for await (const text of worker.stderr.setEncoding('utf8').iterator({ destroyOnReturn: false })) {
    if (!String(text).includes('waiting for cells')) continue;
    worker.stderr.resume();
    return;
  }
  throw new Error('lowbit bench-worker ended before it waited for cells');
}

async function stopWorker(): Promise<void> {
  const worker = workers.pop();
  if (!worker || worker.exitCode !== null) return;
  const ended = once(worker, 'exit');
  worker.kill('SIGTERM');
  await ended;
}

async function repeated(): Promise<number[]> {
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round++) times.push(await seconds());
  return times;
}

/** Of having all cells run. */
async function seconds(): Promise<number> {
  const start = performance.now();
  await runQueued<unknown, CellResult>(
    tasks,
    { ...address, interval: 20 },
    {
      onResult: () => undefined,
      onFailure(_, { message }) {
        throw new Error(message);
      },
    },
  );
  return (performance.now() - start) / 1000;
}
