// A run that is stopped: what it leaves, how it goes on, what it refuses to go on from.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { lockRun } from '@lowbit/bench';
import { fileSha256 } from '@lowbit/formats';
import { afterEach, describe, expect, it } from 'vitest';
import { commandIn, type Outcome, runIn, toyFolder } from './toy-folder.js';

/** Under load a process may take this long to start. */
const PATIENCE = 180_000;

const folder = toyFolder();
const lowbit = commandIn(folder);

const small = ['--threads', '1', '--text', 'text.txt', '--window', '32', '--windows', '8'];
const quantizing = (out: string, recipe = 'gptq:bits=3,groupSize=16'): string[] => [
  'quantize',
  'toy',
  '--recipe',
  recipe,
  '--out',
  out,
  ...small,
];

/** Every file below a folder with its sha256, so that two can be compared byte for byte; of the table of layers, all but the times. */
async function filesOf(name: string): Promise<Record<string, string>> {
  const names = (await readdir(join(folder, name), { recursive: true })).sort();
  const files: Record<string, string> = {};
  for (const file of names) {
    const path = join(folder, name, file);
    if (!(await stat(path)).isFile()) continue;
    files[file] = file.endsWith('.csv') ? withoutTimes(await readFile(path, 'utf8')) : await fileSha256(path);
  }
  return files;
}

/** Seconds are in the last column but one. */
function withoutTimes(table: string): string {
  return table.replaceAll(/,[^,\n]*(,[^,\n]*)$/gm, '$1');
}

const exists = (name: string): Promise<boolean> =>
  stat(join(folder, name)).then(
    () => true,
    () => false,
  );

/** Cancels a run as soon as its first block has been stored: every evaluation asks first. */
async function cancelled(out: string, recipe?: string): Promise<Outcome> {
  const { signal } = new AbortController();
  const stored = join(folder, `${out}.partial`, 'step-0', 'block', 'model.layers.0.safetensors');
  Object.defineProperty(signal, 'aborted', { get: () => existsSync(stored) });
  return runIn(folder, quantizing(out, recipe), signal);
}

describe('a run that is cancelled', () => {
  it('exits with 130, says how to go on, and goes on to the same files', async () => {
    expect((await lowbit(...quantizing('whole'))).code).toBe(0);
    expect(await exists('whole.partial')).toBe(false);

    const { code, errors } = await cancelled('cut');
    expect(code).toBe(130);
    expect(errors).toContain(`${join(folder, 'cut.partial')}: the run as far as it went; the same command with --resume goes on`);
    expect(await exists('cut')).toBe(false);

    const again = await lowbit(...quantizing('cut'));
    expect(again.code).toBe(2);
    expect(again.errors).toMatch(/STORE_UNFINISHED: .*cut\.partial: .* --resume, or .* --force/);

    const resumed = await lowbit(...quantizing('cut'), '--resume');
    expect(resumed).toMatchObject({ code: 0 });
    expect(resumed.errors).toContain('going on with what is there');
    expect(await filesOf('cut')).toEqual(await filesOf('whole'));
    expect(await exists('cut.partial')).toBe(false);
  });

  it('is dropped with --force, and --resume without one begins', async () => {
    await cancelled('dropped');
    expect((await lowbit(...quantizing('dropped', 'gptq:bits=4,groupSize=16'), '--force')).code).toBe(0);
    expect(await exists('dropped.partial')).toBe(false);
    const fresh = await lowbit(...quantizing('fresh'), '--resume');
    expect(fresh).toMatchObject({ code: 0 });
    expect(fresh.errors).toContain('nothing to go on with; beginning');
  });

  it('keeps nothing with --no-store', async () => {
    const abort = new AbortController();
    abort.abort();
    expect((await runIn(folder, [...quantizing('unkept'), '--no-store'], abort.signal)).code).toBe(130);
    expect(await exists('unkept.partial')).toBe(false);
  });
});

describe('a store', () => {
  it.each([
    ['that holds the output', 'work', 'work/made'],
    ['that is the output', 'made', 'made'],
    ['within the output', 'made/store', 'made'],
    ['that holds the model', '.', 'made'],
    ['within the model', 'toy/store', 'made'],
  ])('%s is refused: it is emptied in the end', async (_where, store, out) => {
    const before = await filesOf('toy');
    const { code, errors } = await lowbit(...quantizing(out), '--store', store);
    expect(errors).toMatch(/STORE_DIRECTORY: .*; choose a directory apart from it with --store/);
    expect(code).toBe(2);
    expect(await filesOf('toy')).toEqual(before);
  });

  it.each(['/sys/lowbit', 'text.txt/store'])('at %s, where none can be made, is refused before any work', async (store) => {
    for (const command of ['quantize', 'plan']) {
      const { code, errors } = await lowbit(command, ...quantizing('made').slice(1), '--store', store);
      expect(errors).toMatch(/STORE_DIRECTORY: .*; choose another directory with --store, or keep nothing with --no-store/);
      expect(errors).not.toContain('plan: ');
      expect([code, await exists('made'), await exists('made.partial')]).toEqual([2, false, false]);
    }
  });

  it.each([
    ['output', 'used', 'used'],
    ['store', 'kept', 'kept.partial'],
  ])('or an output that another process writes to is left alone: the %s', async (_which, out, locked) => {
    await mkdir(join(folder, locked));
    const lock = lockRun(join(folder, locked));
    const { code, errors } = await lowbit(...quantizing(out), '--resume');
    expect([code, errors]).toEqual([2, expect.stringMatching(/RUN_LOCKED: .*run\.lock: process \d+ .* wait for it/)]);
    lock.release();
    expect((await lowbit(...quantizing(out), '--resume')).code).toBe(0);
    expect(await exists(`${out}.partial`)).toBe(false);
    expect(await filesOf(out)).toEqual(await filesOf('whole'));
  });

  it('with entries alone, and nothing that says which run they are of, is dropped with --force', async () => {
    await cancelled('nameless');
    await rm(join(folder, 'nameless.partial', 'run.safetensors'));
    expect(await lowbit(...quantizing('nameless'))).toMatchObject({
      code: 2,
      errors: expect.stringContaining('STORE_UNFINISHED') as string,
    });
    expect((await lowbit(...quantizing('nameless'), '--force')).code).toBe(0);
    expect(await exists('nameless.partial')).toBe(false);
  });
});

describe('what is kept of another run', () => {
  it('is refused, naming what changed, and stays as it is', async () => {
    await cancelled('other');
    const before = await filesOf('other.partial');
    const refusal = async (words: readonly string[]): Promise<string> => {
      const { code, errors } = await lowbit(...words, '--resume');
      expect(code).toBe(2);
      expect(errors).not.toContain('goes on\n');
      expect(await exists('other')).toBe(false);
      return /STORE_RUN: .*/.exec(errors)?.[0] ?? errors;
    };
    const option = await refusal(quantizing('other', 'gptq:bits=4,groupSize=16'));
    expect(option).toContain(
      `${join(folder, 'other.partial')}: the store holds blocks of a run that differs: step 0 options.bits was 3 and is 4;`,
    );
    expect(option).toContain('--force and without --resume');
    // The seed chooses windows as well.
    expect(await refusal([...quantizing('other'), '--seed', '1'])).toContain('seed was 0 and is 1; calibration was');
    expect(await refusal([...quantizing('other'), '--threads', '2'])).toContain('engine was "onnxruntime');

    // Last of its kind wins: one letter of the text, then one byte of the weights.
    const text = await readFile(join(folder, 'text.txt'), 'utf8');
    await writeFile(join(folder, 'text.txt'), text.replaceAll('lazy', 'hazy'));
    expect(await refusal(quantizing('other'))).toMatch(/differs: calibration was text\.txt .* with other contents;/);
    await writeFile(join(folder, 'text.txt'), text);
    const weights = join(folder, 'toy', 'model.safetensors');
    const bytes = await readFile(weights);
    const changed = Buffer.from(bytes);
    changed[changed.length - 2] ^= 1;
    await writeFile(weights, changed);
    expect(await refusal(quantizing('other'))).toMatch(/differs: model\.[a-z0-9_.]+ has other elements;/);
    await writeFile(weights, bytes);

    expect(await filesOf('other.partial')).toEqual(before);
    expect((await lowbit(...quantizing('other'), '--resume')).code).toBe(0);
  });

  it('is no directory with other files in it', async () => {
    await mkdir(join(folder, 'notes'));
    await writeFile(join(folder, 'notes', 'model.safetensors'), 'precious');
    const outcome = await lowbit(...quantizing('noted'), '--store', 'notes');
    expect(outcome).toMatchObject({ code: 2 });
    expect(outcome.errors).toMatch(/STORE_DIRECTORY: .*notes: is not empty and holds no run/);
    expect(await readFile(join(folder, 'notes', 'model.safetensors'), 'utf8')).toBe('precious');
  });

  it.each([
    [['--no-store', '--resume'], 'STORE_OPTIONS: --resume'],
    [['--no-store', '--memory', '1MiB'], 'STORE_OPTIONS: --memory'],
    [['--memory', 'much'], 'expected a size such as 2GiB'],
  ])('is not for %j', async (words, message) => {
    const outcome = await lowbit(...quantizing('options'), ...words);
    expect(outcome.code).toBe(2);
    expect(outcome.errors).toContain(message);
  });
});

it('activations beyond --memory lie in the store, with the same result', async () => {
  expect((await lowbit(...quantizing('in-memory', 'qat-blocks:bits=3,groupSize=16,epochs=1'))).code).toBe(0);
  expect((await lowbit(...quantizing('on-disk', 'qat-blocks:bits=3,groupSize=16,epochs=1'), '--memory', '0B')).code).toBe(0);
  expect(await filesOf('on-disk')).toEqual(await filesOf('in-memory'));
});

describe('the process', () => {
  const bin = fileURLToPath(new URL('../src/bin.ts', import.meta.url));
  const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;

  const waits = fileURLToPath(new URL('recipes/waits.ts', import.meta.url));
  const deaf = fileURLToPath(new URL('recipes/deaf.ts', import.meta.url));

  const children: ChildProcess[] = [];
  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
  });

  /** lowbit as a process that is sent a signal each time it has written the next of some texts. */
  async function signalled(words: readonly string[], signals: readonly (readonly [text: string, signal: NodeJS.Signals])[]) {
    const child = spawn(process.execPath, ['--import', tsx, bin, ...words], { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
    children.push(child);
    let said = '';
    let sent = 0;
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
      if (sent < signals.length && said.includes(signals[sent][0])) child.kill(signals[sent++][1]);
    });
    const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
    return { code, signal, said };
  }

  it(
    'ends with 130 at Ctrl-C and leaves a run to go on with',
    async () => {
      const words = quantizing('interrupted', waits);
      const { code, said } = await signalled(words, [['WAITING', 'SIGINT']]);
      expect(said).toContain('stopping as soon as the work at hand allows');
      expect(said).toContain('interrupted.partial: the run as far as it went; the same command with --resume goes on');
      expect(said).toContain('ABORTED');
      expect(code).toBe(130);
      expect(await exists('interrupted')).toBe(false);
      expect(await exists('interrupted.partial/step-0/block/model.layers.0.safetensors')).toBe(true);
    },
    PATIENCE,
  );

  it(
    'ends at once at the second Ctrl-C, whatever it is doing',
    async () => {
      const { code, signal, said } = await signalled(quantizing('deaf', deaf), [
        ['WAITING', 'SIGINT'],
        ['once more ends at once', 'SIGINT'],
      ]);
      expect(said).not.toContain('ABORTED');
      // By the program, or by the system: what shells call 130 either way.
      expect(signal ?? code).toBe(signal === null ? 130 : 'SIGINT');
      expect(await exists('deaf.partial/run.safetensors')).toBe(true);
    },
    PATIENCE,
  );
});
