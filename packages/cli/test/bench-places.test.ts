// lowbit bench with its cells in other processes: the rows are those of one process, and killing a worker costs none.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { type BenchRow, isScore } from '@lowbit/bench';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { freePort, missingForRedis, type RedisServer, startRedis } from '../../bench/src/speed/redis-server.js';
import { runIn, toyFolder } from './toy-folder.js';

// Up to a dozen processes start one after another, each of which reads all sources: a busy machine takes its time.
vi.setConfig({ testTimeout: 900_000, hookTimeout: 300_000 });

const four = ['rtn:bits=4,groupSize=16', 'rtn:bits=4,groupSize=24', 'gptq:bits=4,groupSize=16', 'gptq:bits=2,groupSize=16'];
/** Of the recipes that can be run, and the dense model: perplexity, kl, top1-agreement, loss-gap; of the other: one error. */
const ROWS = 4 * 4 + 1;

const folder = toyFolder();
let expected: string[];
beforeAll(async () => {
  expected = figures((await bench(['--out', 'here', '--threads', '1'])).rows);
});

interface Outcome {
  readonly code: number;
  readonly errors: string;
  readonly rows: readonly BenchRow[];
}

interface Settings {
  readonly signal?: AbortSignal;
  readonly model?: string;
  readonly recipes?: readonly string[];
}

/** Runs a benchmark and reads its rows from the directory after --out. */
async function bench(words: readonly string[], { signal, model = 'toy', recipes = four }: Settings = {}): Promise<Outcome> {
  const small = ['--text', 'text.txt', '--window', '32', '--windows', '8', '--calibration-windows', '8'];
  const given = ['bench', '--model', model, ...recipes.flatMap((recipe) => ['--recipe', recipe]), ...small, ...words];
  const { code, errors } = await runIn(folder, given, signal);
  const path = join(folder, words[words.indexOf('--out') + 1], 'results.jsonl');
  const lines = (await readFile(path, 'utf8').catch(() => '')).split('\n').slice(0, -1);
  return { code, errors, rows: lines.map((line) => JSON.parse(line) as BenchRow) };
}

/** What rows say apart from times, memory, and the commit, which may be another by the time a process starts. */
function figures(rows: readonly BenchRow[]): string[] {
  return rows.map((row) => {
    const { seconds: _, peakRssMiB: __, commit: ___, ...rest } = row;
    return JSON.stringify(isScore(row) ? { ...rest, evaluateSeconds: 0 } : rest);
  });
}

describe('bench --workers', () => {
  it('gives the rows of one process on one thread, in the order of the plan', async () => {
    const { code, errors, rows } = await bench(['--workers', '2', '--out', 'two']);
    expect(errors).toContain('each cell runs on 1 thread;');
    expect(code).toBe(1);
    expect(errors).toContain(`CELLS_FAILED: 1 of ${ROWS} rows`);
    expect(rows).toHaveLength(ROWS);
    expect(figures(rows)).toEqual(expected);
  });

  it('goes on with the number of threads that a run has, and refuses another', async () => {
    const recipes = ['rtn:bits=4,groupSize=16'];
    expect((await bench(['--threads', '2', '--out', 'threads'], { recipes })).code).toBe(0);
    const more = [...recipes, 'rtn:bits=2,groupSize=16'];
    expect(await bench(['--workers', '1', '--threads', '1', '--out', 'threads', '--resume'], { recipes: more })).toMatchObject({
      code: 2,
      errors: expect.stringMatching(/RESUME_SETTINGS.*\(engine, backend\)/) as unknown,
    });
    const { code, rows } = await bench(['--workers', '1', '--out', 'threads', '--resume'], { recipes: more });
    expect(code).toBe(0);
    expect(rows).toHaveLength(12);
    expect(new Set(rows.map(({ backend }) => backend))).toEqual(new Set([expect.stringContaining('2 threads')]));
  });

  it('finds a model that is not there as one process does', async () => {
    const { code, errors } = await bench(['--workers', '2', '--out', 'none'], { model: 'no-model' });
    expect(code).toBe(2);
    expect(errors).toContain('MODEL_REFERENCE');
  });

  it('makes rows of cells whose process is lost every time', async () => {
    const deadly = fileURLToPath(new URL('recipes/deadly.ts', import.meta.url));
    const { code, errors, rows } = await bench(['--workers', '1', '--out', 'deadly'], { recipes: [deadly] });
    expect(code).toBe(1);
    expect(errors).toContain('CELLS_FAILED: 2 of 2 rows');
    const error = { code: 'PROCESS_LOST', message: expect.stringContaining('SIGKILL') as unknown };
    expect(rows).toEqual([
      expect.objectContaining({ recipe: 'dense', evaluator: 'text', value: null, method: 'dense', error }),
      expect.objectContaining({ recipe: 'deadly', evaluator: 'text', value: null, method: 'rtn', error }),
    ]);
  });

  it('refuses two places', async () => {
    const { code, errors } = await bench(['--workers', '2', '--queue', 'redis://localhost', '--out', 'both']);
    expect(code).toBe(2);
    expect(errors).toContain('BENCH_OPTIONS');
  });
});

describe('bench --queue without a server', () => {
  it.each([['bench-worker'], ['bench']])('%s says so', async (command) => {
    const url = `redis://127.0.0.1:${await freePort()}`;
    const words =
      command === 'bench' ? ['bench', '--model', 'toy', '--recipe', 'rtn:groupSize=16', '--queue', url] : [command, '--queue', url];
    const { code, errors } = await runIn(folder, words);
    expect(code).toBe(2);
    expect(errors).toContain(`QUEUE_UNREACHABLE: ${url}`);
  });
});

const missing = missingForRedis();

describe.skipIf(missing !== undefined)(`bench --queue${missing === undefined ? '' : ` (${missing})`}`, () => {
  let redis: RedisServer;
  const workers: ChildProcess[] = [];
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis?.stop());
  afterEach(async () => {
    for (const worker of workers.splice(0)) {
      if (worker.exitCode !== null || worker.signalCode !== null) continue;
      worker.kill('SIGKILL');
      await once(worker, 'exit');
    }
  });

  /** lowbit bench-worker as a process, when it waits for cells; `says` keeps what it writes. */
  async function startWorker(directory = folder, ...more: string[]): Promise<{ process: ChildProcess; says: () => string }> {
    const bin = fileURLToPath(new URL('../src/bin.ts', import.meta.url));
    const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
    const words = ['bench-worker', '--queue', redis.url, '--lost-after', '3', ...more];
    const worker = spawn(process.execPath, ['--import', tsx, bin, ...words], { cwd: directory, stdio: ['ignore', 'ignore', 'pipe'] });
    workers.push(worker);
    let said = '';
    worker.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    while (!said.includes('waiting for cells')) await once(worker.stderr, 'data');
    return { process: worker, says: () => said };
  }

  it('gives the rows of one process when one of two workers is killed in the middle of a cell', async () => {
    const [first] = await Promise.all([startWorker(), startWorker()]);
    const kill = (): void => {
      if (first.says().includes('begun')) first.process.kill('SIGKILL');
    };
    first.process.stderr?.on('data', kill);
    const { code, rows } = await bench(['--queue', redis.url, '--out', 'queued']);
    expect(first.process.signalCode).toBe('SIGKILL');
    expect(code).toBe(1);
    expect(figures(rows)).toEqual(expected);
  });

  it('leaves no cell to a worker whose files are others', async () => {
    const elsewhere = join(folder, 'elsewhere');
    await mkdir(elsewhere);
    await cp(join(folder, 'toy'), join(elsewhere, 'toy'), { recursive: true });
    await writeFile(join(elsewhere, 'toy', 'tokenizer_config.json'), '{}');
    const unfit = await startWorker(elsewhere);
    const ended = once(unfit.process, 'exit');
    const running = bench(['--queue', redis.url, '--out', 'from-elsewhere'], { recipes: four.slice(0, 1) });
    expect(await Promise.race([ended, running])).toEqual([1, null]);
    expect(unfit.says()).toMatch(/PLAN_FILES: .*: toy: not here as the plan was made with/);
    await startWorker();
    const { code, rows } = await running;
    expect(code).toBe(0);
    expect(figures(rows)).toEqual(expected.filter((row) => /"recipe":"(dense|rtn:bits=4,groupSize=16)"/.test(row)));
  });

  it('goes on with --resume, with what workers finished meanwhile', async () => {
    const abort = new AbortController();
    const cancelled = bench(['--queue', redis.url, '--out', 'resumed'], { signal: abort.signal });
    const worker = await startWorker();
    while (!worker.says().includes('done')) await once(worker.process.stderr!, 'data');
    abort.abort();
    expect((await cancelled).code).toBe(130);
    const { rows } = await bench(['--queue', redis.url, '--out', 'resumed', '--resume']);
    expect(figures(rows)).toEqual(expected);
    worker.process.kill('SIGTERM');
    expect(await once(worker.process, 'exit')).toEqual([0, null]);
    await rm(join(folder, 'resumed'), { recursive: true });
  });
});
