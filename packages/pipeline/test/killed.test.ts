// Runs that are killed go on to the bytes of one that never was, wherever the kills hit.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { createRng } from '@lowbit/core';
import { createFileStore, fileSha256 } from '@lowbit/formats';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { runToFile } from './killed-run.js';

/** At one time. */
const CHAINS = 2;
const KILLS_OF_CHAIN = 6;

/** Some fifteen processes, each of which may take its time to start on a busy machine. */
const PATIENCE = 1_800_000;

let folder: string;
const children = new Set<ChildProcess>();
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lowbit-killed-'));
});
afterAll(async () => {
  for (const child of children) child.kill('SIGKILL');
  await rm(folder, { recursive: true, force: true });
});

interface Ending {
  readonly code: number | null;
  readonly signal: string | null;
  readonly errors: string;
}

/** Begins a run, or goes on with it, until the n-th thing that it does. */
async function runUntil(killAt: number, store: string, output: string): Promise<Ending> {
  const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
  const script = fileURLToPath(new URL('killed-run.ts', import.meta.url));
  const child = spawn(process.execPath, ['--import', tsx, script, store, output, String(killAt)], { stdio: ['ignore', 'ignore', 'pipe'] });
  children.add(child);
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  children.delete(child);
  return { code, signal, errors };
}

/** A run that is killed at random points until it is done, then another, until there were enough kills. @returns what the runs wrote. */
async function killedRuns(chain: number, ticks: number): Promise<string[]> {
  const outputs: string[] = [];
  const at = (name: string): string => join(folder, `${chain}-${outputs.length}-${name}`);
  let kills = 0;
  for (let draw = 0; kills < KILLS_OF_CHAIN || outputs.length === 0; draw++) {
    const [uniform] = createRng(chain).at(draw).uniform(1);
    // A kill comes after at most a third of the work, so that most runs are hit several times.
    const point = kills < KILLS_OF_CHAIN ? 1 + Math.floor((uniform * ticks) / 3) : 0;
    const { code, signal, errors } = await runUntil(point, at('store'), at('out.safetensors'));
    expect(signal ?? code, errors).toBe(signal === null ? 0 : 'SIGKILL');
    if (signal) kills++;
    else outputs.push(at('out.safetensors'));
  }
  return outputs;
}

it(
  `runs that are killed ${CHAINS * KILLS_OF_CHAIN} times end with the bytes of one that never was`,
  async () => {
    const whole = join(folder, 'whole.safetensors');
    await runToFile({ store: undefined, output: whole, tick: () => undefined });
    const expected = await fileSha256(whole);
    let ticks = 0;
    const counted = join(folder, 'counted.safetensors');
    await runToFile({ store: createFileStore(join(folder, 'counted')), output: counted, tick: () => void ticks++ });
    expect(await fileSha256(counted)).toBe(expected);
    const outputs = await Promise.all(Array.from({ length: CHAINS }, (_, chain) => killedRuns(chain, ticks)));
    for (const output of outputs.flat()) {
      expect(await fileSha256(output), output).toBe(expected);
      // Those that came to their end had begun long before: what was finished then they have not computed again.
      expect(Number(await readFile(`${output}.reused`, 'utf8')), output).toBeGreaterThan(0);
    }
  },
  PATIENCE,
);
