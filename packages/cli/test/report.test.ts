// lowbit report: the page of a run, and commands in it that make the run again.
import { execFileSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { BenchPlan } from '@lowbit/bench';
import { beforeAll, describe, expect, it } from 'vitest';
import { benchCommand } from '../src/bench-command.js';
import { planOf } from '../src/bench-plan.js';
import { commandIn, TEXT, toyFolder } from './toy-folder.js';

const folder = toyFolder();
const lowbit = commandIn(folder);
beforeAll(async () => {
  await writeFile(join(folder, "someone's text.txt"), TEXT);
});

/** The words of a command after its name, as a shell reads them. */
function wordsOf(command: string): string[] {
  return execFileSync('sh', ['-c', `printf '%s\\0' ${command.replace(/^lowbit /, '')}`], { encoding: 'utf8' })
    .split('\0')
    .slice(0, -1);
}

async function planIn(name: string): Promise<BenchPlan> {
  return (JSON.parse(await readFile(join(folder, name, 'plan.json'), 'utf8')) as { plan: BenchPlan }).plan;
}

const recipes = ['--recipe', 'rtn:bits=4,groupSize=16', '--recipe', 'rtn:bits=3,groupSize=16,targets=["**.mlp.*"]'];
const size = ['--windows', '2', '--window', '16', '--calibration-windows', '3'];
const given = [
  ...['--model', 'toy', '--text', "someone's text.txt", '--documents', 'lines', '--seeds', '0', '--seeds', '1', ...recipes, ...size],
  ...['--evaluators', 'text', 'layer-error', '--threads', '1', '--quiet'],
];

describe('lowbit report', () => {
  it('writes a page into the folder of a run, and again', async () => {
    expect((await lowbit('bench', ...given, '--out', 'run')).code).toBe(0);
    for (const _ of [1, 2]) {
      expect(await lowbit('report', 'run')).toMatchObject({ code: 0, output: `${join(folder, 'run', 'report.html')}\n` });
    }
    const page = await readFile(join(folder, 'run', 'report.html'), 'utf8');
    expect(page).toContain('2 recipes on toy · 2 seeds');
    expect(page).toMatch(/Reproduce[\s\S]*?lowbit bench \\\n {2}--model toy \\\n {2}--recipe/);
    expect(page).toContain('--text &#39;');
  });

  it('writes elsewhere, and over nothing that it did not make', async () => {
    expect(await lowbit('report', 'run', '--out', 'page.html')).toMatchObject({ code: 0, output: `${join(folder, 'page.html')}\n` });
    expect(await lowbit('report', 'run', '--out', 'page.html')).toMatchObject({
      code: 2,
      errors: expect.stringMatching(/OUTPUT_EXISTS.*--force/) as string,
    });
    expect((await lowbit('report', 'run', '--out', 'page.html', '--force')).code).toBe(0);
    expect(await lowbit('report', 'toy')).toMatchObject({ code: 2, errors: expect.stringContaining('RUN_MISSING') as string });
  });

  it('draws one plot of a run as a picture', async () => {
    expect(await lowbit('report', 'run', '--plot', 'kl.svg', '--score', 'kl')).toMatchObject({
      code: 0,
      output: `${join(folder, 'kl.svg')}\n`,
    });
    expect(await readFile(join(folder, 'kl.svg'), 'utf8')).toContain('<title>KL ');
  });

  it.each([
    [['--plot', 'kl.svg'], /OUTPUT_EXISTS.*--force/],
    [['--plot', 'new.svg', '--score', 'kll'], /REPORT_PLOT.*did you mean 'kl'/],
    [['--plot', 'new.svg', '--model', 'toi'], /REPORT_PLOT.*did you mean 'toy'/],
    [['--plot', 'new.svg', '--out', 'new.html'], /OPTIONS_INVALID.*one of them at a time/],
    [['--score', 'kl'], /OPTIONS_INVALID.*add --plot/],
    [['--plot', 'nowhere/new.svg'], /REPORT_WRITE.*--plot/],
  ])('refuses %j', async (words, message) => {
    const { code, errors } = await lowbit('report', 'run', ...words);
    expect(errors).toMatch(message);
    expect(code).toBe(2);
  });
});

const engine = { backend: 'onnxruntime:cpu', threads: 3 } as const;

describe('benchCommand', () => {
  it('is a command with the same plan, of all of it and of a recipe', async () => {
    const plan = await planIn('run');
    const whole = benchCommand(plan) as string;
    expect((await lowbit(...wordsOf(whole), '--threads', '1', '--quiet', '--out', 'again')).code).toBe(0);
    const bare = ({ recipes, ...rest }: BenchPlan): object => ({ ...rest, recipes: recipes.map(({ steps }) => steps) });
    expect(bare(await planIn('again'))).toEqual(bare(plan));
    const [, second] = plan.recipes;
    const one = benchCommand(plan, { model: 'toy', recipe: second.name }) as string;
    expect(wordsOf(one).filter((word) => word.startsWith('rtn'))).toEqual(['rtn:bits=3,groupSize=16,targets=["**.mlp.*"]']);
    expect(benchCommand(plan, { model: 'toy', recipe: 'dense' })).toContain('--recipe rtn \\');
  });

  it('names the preset whose recipes these are', async () => {
    const plan = await planOf({ preset: 'quick', seeds: [3], documents: 'whole', field: 'text' }, engine, folder);
    const command = benchCommand(plan) as string;
    expect(command).toMatch(/--preset quick \\\n/);
    expect(command).toContain('--seeds 3');
    expect(command).not.toContain('--recipe');
    expect(command).toContain('--backend onnxruntime:cpu \\\n  --threads 3');
  });

  it('says how the text of a task is read', async () => {
    await writeFile(join(folder, 'notes.jsonl'), '{"body":"One."}\n');
    const words = { preset: 'quick', documents: 'blank-lines', field: 'body' } as const;
    const plan = await planOf({ ...words, task: 'notes.jsonl' }, engine, folder);
    expect(benchCommand(plan)).toContain('--documents blank-lines \\\n  --field body');
    const both = await planOf({ ...words, task: 'notes.jsonl', text: 'notes.jsonl' }, engine, folder);
    expect(benchCommand(both)).toContain('--field body');
    expect(benchCommand({ ...both, task: { source: 'notes.jsonl', text: { field: 'text' } } })).toBeUndefined();
    expect(benchCommand({ ...both, task: { source: 'notes.jsonl', template: '{a}', text: { field: 'text' } } })).toContain('--template');
  });

  it('is none where options cannot say it', async () => {
    const plan = await planOf({ preset: 'quick', documents: 'whole', field: 'text' }, engine, folder);
    expect(benchCommand(plan, { model: 'other', recipe: plan.recipes[0].name })).toBeUndefined();
    expect(benchCommand({ ...plan, heldOut: { ...plan.heldOut, protocol: 'window-256' } })).toBeUndefined();
    expect(benchCommand({ ...plan, calibration: { ...plan.calibration, source: { kind: 'self' } } })).toBeUndefined();
  });
});
