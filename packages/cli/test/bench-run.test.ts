// lowbit bench as a run that is cut off, goes on, and is compared with another.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { runCommandLine } from '../src/program.js';
import { recordingTerminal, writeToyCheckpoint } from './toy-checkpoint.js';
import { commandIn, TEXT, toyFolder } from './toy-folder.js';

const folder = toyFolder();
const bench = commandIn(folder, 'bench');

const small = ['--model', 'toy', '--text', 'sotu', '--window', '32', '--windows', '2', '--calibration-windows', '2', '--threads', '1'];
const sweep = [...small, '--recipe', 'gptq:bits=2|4,groupSize=16', '--seeds', '0', '--seeds', '1'];
const read = (...path: readonly string[]): Promise<string> => readFile(join(folder, ...path), 'utf8');

type Row = Readonly<Record<string, unknown>>;

async function rowsIn(name: string): Promise<Row[]> {
  return (await read(name, 'results.jsonl'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Row);
}

/** What two runs of one plan have in common: all but times, memory and the commit, which others may make meanwhile. */
function lasting({ seconds: _, evaluateSeconds: __, peakRssMiB: ___, commit: ____, ...row }: Row): Row {
  return row;
}

const cells = (rows: readonly Row[]): string[] => [...new Set(rows.map(({ recipe, seed }) => `${String(recipe)} ${String(seed)}`))];

describe('a run', () => {
  it('has a cell for each value of an option and each seed, and a plan that says so', async () => {
    const { code, output } = await bench(...sweep, '--out', 'first');
    expect(code).toBe(0);
    expect(cells(await rowsIn('first'))).toEqual(['dense 0', 'gptq:bits=2 0', 'gptq:bits=2 1', 'gptq:bits=4 0', 'gptq:bits=4 1']);
    expect(output).toMatch(/\| toy +\| gptq:bits=2 +\| +2 \| +16 \| +[\d.]+ \| +2 \|/);
    expect(output).toContain('± is the standard error of the mean over the held-out text and over the seeds.');
    expect(await read('first', 'results.md')).toBe(output);
    expect(JSON.parse(await read('first', 'plan.json'))).toMatchObject({
      digest: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
      plan: {
        models: ['toy'],
        seeds: [0, 1],
        recipes: [{ name: 'gptq:bits=2', steps: [{ method: 'gptq', options: { bits: 2, groupSize: 16 } }] }, {}],
      },
    });
    const [log] = (await read('first', 'logs.jsonl')).split('\n');
    expect(JSON.parse(log)).toMatchObject({ model: 'toy', recipe: 'gptq:bits=2', seed: 0, path: expect.any(String) as string, record: {} });
  });

  it('goes on where it was cut off, to equal rows', async () => {
    const whole = await rowsIn('first');
    expect(await bench(...sweep, '--out', 'first')).toMatchObject({
      code: 2,
      errors: expect.stringMatching(/OUTPUT_EXISTS.*--resume/) as string,
    });
    const lines = (await read('first', 'results.jsonl')).split('\n');
    // In the middle of the third cell's rows, of which there are four a cell.
    await writeFile(join(folder, 'first', 'results.jsonl'), `${lines.slice(0, 10).join('\n')}\n${lines[10].slice(0, 99)}`);
    const { code, errors } = await bench(...sweep, '--out', 'first', '--resume');
    expect(code).toBe(0);
    expect(errors.match(/^toy .*: perplexity/gm)).toHaveLength(3);
    expect((await rowsIn('first')).map(lasting)).toEqual(whole.map(lasting));
  });

  it('takes more seeds, and no other text', async () => {
    const more = await bench(...sweep, '--seeds', '2', '--out', 'first', '--resume', '--json');
    expect(more.code).toBe(0);
    expect(more.output.trim().split('\n')).toHaveLength(7 * 4);
    const other = await bench(...sweep, '--windows', '3', '--out', 'first', '--resume');
    expect(other).toMatchObject({ code: 2, errors: expect.stringMatching(/RESUME_SETTINGS.*heldOut/) as string });
    expect(await rowsIn('first')).toHaveLength(7 * 4);
  });

  it('that is cancelled keeps its cells', async () => {
    const cancel = new AbortController();
    const terminal = recordingTerminal();
    const out = (text: string) => {
      if (text.includes('"seed":1')) cancel.abort();
    };
    const words = ['bench', ...sweep, '--out', 'cancelled', '--json'];
    const code = await runCommandLine({ arguments: words, terminal: { ...terminal, out }, directory: folder, signal: cancel.signal });
    expect(code).toBe(130);
    expect(terminal.errors()).toContain('--resume goes on from there');
    expect(cells(await rowsIn('cancelled'))).toEqual(['dense 0', 'gptq:bits=2 0', 'gptq:bits=2 1']);
    expect(existsSync(join(folder, 'cancelled', 'results.md'))).toBe(false);
    expect((await bench(...sweep, '--out', 'cancelled', '--resume')).code).toBe(0);
    expect((await rowsIn('cancelled')).map(lasting)).toEqual((await rowsIn('first')).filter(({ seed }) => seed !== 2).map(lasting));
  });
});

describe('a run on a file', () => {
  it('does not go on when the file has changed', async () => {
    const words = [...small, '--recipe', 'rtn:groupSize=16', '--text', 'text.txt', '--out', 'on-file'];
    expect((await bench(...words)).code).toBe(0);
    expect(await bench(...words, '--resume')).toMatchObject({ code: 0, errors: expect.not.stringContaining('perplexity') as string });
    await writeFile(join(folder, 'text.txt'), `${TEXT}.`);
    expect(await bench(...words, '--resume')).toMatchObject({
      code: 2,
      errors: expect.stringMatching(/RESUME_SETTINGS.*\(file .*text\.txt\)/) as string,
    });
  });

  it('does not go on when the weights of its model have changed', async () => {
    await mkdir(join(folder, 'changed'));
    const model = await writeToyCheckpoint(join(folder, 'changed'));
    const words = [...small.slice(2), '--model', model, '--recipe', 'rtn:groupSize=16', '--out', 'on-weights'];
    expect((await bench(...words)).code).toBe(0);
    await writeFile(join(model, 'README.md'), 'What is written about it decides nothing.');
    expect((await bench(...words, '--resume')).code).toBe(0);
    const weights = await readFile(join(model, 'model.safetensors'));
    weights[weights.length - 1] ^= 1;
    await writeFile(join(model, 'model.safetensors'), weights);
    expect(await bench(...words, '--resume')).toMatchObject({
      code: 2,
      errors: expect.stringMatching(/RESUME_SETTINGS.*\(weights of .*toy\)/) as string,
    });
  });

  it('does not go on when the records of its tasks have changed', async () => {
    const record = (question: string): string =>
      `${JSON.stringify({ question, choices: { text: ['one', 'two'], label: ['A', 'B'] }, answerKey: 'A' })}\n`;
    await mkdir(join(folder, 'records'), { recursive: true });
    const file = join(folder, 'records', 'arc_easy.test.jsonl');
    await writeFile(file, record('What?'));
    const words = [...small, '--recipe', 'rtn:groupSize=16', '--tasks', 'arc_easy', '--task-data', 'records', '--out', 'on-records'];
    expect((await bench(...words)).code).toBe(0);
    expect((await bench(...words, '--resume')).code).toBe(0);
    await writeFile(file, record('Who?'));
    expect(await bench(...words, '--resume')).toMatchObject({
      code: 2,
      errors: expect.stringMatching(/RESUME_SETTINGS.*\(file arc_easy test\)/) as string,
    });
  });
});

describe('a directory that a run is written into', () => {
  const words = [...small, '--recipe', 'rtn:groupSize=16', '--out', 'in-use'];
  const lock = (): string => join(folder, 'in-use', 'run.lock');

  it('is no other run’s meanwhile', async () => {
    await mkdir(join(folder, 'in-use'));
    await writeFile(lock(), JSON.stringify({ pid: process.pid, host: hostname() }));
    for (const more of [[], ['--resume'], ['--force']]) {
      expect(await bench(...words, ...more)).toMatchObject({ code: 2, errors: expect.stringContaining('RUN_LOCKED') as string });
    }
    expect(existsSync(lock())).toBe(true);
  });

  it('is anybody’s when that run is gone, and is left behind free', async () => {
    const { pid } = spawnSync(process.execPath, ['-e', '']);
    await writeFile(lock(), JSON.stringify({ pid, host: hostname() }));
    expect((await bench(...words)).code).toBe(0);
    expect((await readdir(join(folder, 'in-use'))).sort()).toEqual(['logs.jsonl', 'plan.json', 'results.jsonl', 'results.md']);
  });
});

describe('diff', () => {
  it('finds no difference between two runs of one plan, and what a run lacks', async () => {
    const { code, output, errors } = await bench('diff', 'first', 'cancelled');
    expect({ code, errors }).toEqual({ code: 0, errors: '' });
    expect(output.match(/\| same +\|/g)).toHaveLength(12);
    expect(output).not.toMatch(/worse|better|within noise/);
    expect(output).toContain('toy, gptq:bits=2, seed 2, perplexity: in the first run alone');
  });

  it('prints JSON', async () => {
    const { output } = await bench('diff', 'first', 'cancelled', '--json');
    const items = output
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Row);
    expect(items[0]).toMatchObject({ model: 'toy', recipe: 'dense', difference: 0, verdict: 'same' });
    expect(items.at(-1)).toMatchObject({ note: expect.stringContaining('alone') as string });
  });

  it('says where there is no run', async () => {
    expect(await bench('diff', 'first', 'absent')).toMatchObject({ code: 2, errors: expect.stringContaining('RUN_MISSING') as string });
  });
});

describe('bad input', () => {
  it.each([
    [['--recipe', 'rtn', '--out', 'x', '--force', '--resume'], 'BENCH_OPTIONS: --force starts again'],
    [['--recipe', 'rtn', '--resume'], 'BENCH_OPTIONS: --resume goes on with the rows of a directory'],
    [['--recipe', 'gptq:bits=2|2'], 'RECIPE_SYNTAX'],
    [['--recipe', 'gptq:bits=2|40'], 'OPTIONS_INVALID'],
    [['--recipe', 'dense.json'], 'RECIPE_FILE'],
    [['--recipe', 'rtn', '--seeds', '1', '--seeds', '1'], "two seeds are called '1'"],
  ])('%j', async (words, message) => {
    const outcome = await bench('--model', 'toy', ...words);
    expect(outcome).toMatchObject({ code: 2, output: '' });
    expect(outcome.errors).toContain(message);
    expect(existsSync(join(folder, 'x'))).toBe(false);
  });
});
