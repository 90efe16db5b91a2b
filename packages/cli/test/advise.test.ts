// lowbit advise from end to end on a toy model.
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { adviceCandidates } from '../src/advice-recipes.js';
import { commandIn, runIn, toyFolder } from './toy-folder.js';

const folder = toyFolder();
const lowbit = commandIn(folder);

const small = ['--threads', '1', '--window', '32', '--windows', '4', '--group-size', '16'];
const calibrated = ['--calibration-windows', '8'];
const quick = ['--ptq', 'rtn', '--ptq', 'gptq', '--qat', 'decoupleq-sft:epochs=1,batch=4'];

interface Line {
  readonly name?: string;
  readonly value?: number;
  readonly advice?: {
    readonly isMet: boolean;
    readonly recipe: string;
    readonly value: number;
    readonly confirmed?: { readonly value: number };
    readonly damages: readonly { parts: readonly unknown[] }[];
  };
}

function linesOf(output: string): Line[] {
  return output
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);
}

describe('a threshold that quantizing alone meets', () => {
  it('gives a recipe that makes the same model again', async () => {
    const words = ['advise', 'toy', '--threshold', 'kl=0.05', '--bits', '2,8', ...quick, ...small, ...calibrated, '--out', 'met'];
    const outcome = await lowbit(...words, '--text', 'sotu', '--json', '--quiet');
    expect(outcome).toMatchObject({ code: 0, errors: '' });
    const lines = linesOf(outcome.output);
    const best = 'rtn:bits=8,groupSize=16';
    expect(lines.map(({ name }) => name)).toEqual([
      'rtn:bits=2,groupSize=16',
      'gptq:bits=2,groupSize=16',
      best,
      'gptq:bits=8,groupSize=16',
      undefined,
    ]);
    const { value, confirmed } = lines[4].advice ?? {};
    expect(lines[4]).toMatchObject({ advice: { isMet: true, recipe: best }, out: join(folder, 'met') });
    expect(confirmed?.value).toBeLessThanOrEqual(0.05);
    expect(confirmed?.value).not.toBe(value);
    const report = join(folder, 'runs', 'advise', 'toy');
    expect(await readdir(report)).toEqual(['advice.md', 'recipe.json', 'trials.jsonl']);
    const command =
      (await readFile(join(report, 'advice.md'), 'utf8')).trim().split('\n').at(-1)?.trim().replace('<directory>', 'again').split(' ') ??
      [];
    expect(command[0]).toBe('lowbit');
    expect((await lowbit(...command.slice(1))).code).toBe(0);
    const weights = (directory: string): Promise<Buffer> => readFile(join(folder, directory, 'model.safetensors'));
    expect(await weights('again')).toEqual(await weights('met'));
  });

  it('is not overwritten unasked', async () => {
    const again = await lowbit('advise', 'toy', '--threshold', 'kl=0.05', ...quick, ...small);
    expect(again).toMatchObject({ code: 2, output: '' });
    expect(again.errors).toContain('OUTPUT_EXISTS');
  });
});

it('says how far a threshold is that nothing meets, and which Linears hurt', async () => {
  const words = ['advise', 'toy', '--threshold', 'kl=1e-9', ...quick, ...small, ...calibrated, '--text', 'text.txt'];
  const outcome = await lowbit(...words, '--report', 'unmet', '--out', 'unmet-model');
  expect(outcome.code).toBe(1);
  expect(outcome.errors).toMatch(
    /lowbit: THRESHOLD_UNMET: kl at most 1e-9: met by nothing that was tried\. Nearest is .* too much\..* --bits/,
  );
  expect(existsSync(join(folder, 'unmet-model'))).toBe(false);
  expect(outcome.output).toContain('What each of its 14 parts');
  expect(outcome.output).toContain('To make the nearest again (to other weights: quantize reads all of text.txt):');
  expect(outcome.output).toContain(' + decoupleq-sft:epochs=1,batch=4 on the worst 4 of 14');
  const recipe = JSON.parse(await readFile(join(folder, 'unmet', 'recipe.json'), 'utf8')) as { method: string }[];
  expect(['rtn', 'gptq']).toContain(recipe[0].method);
  const damages = linesOf(await readFile(join(folder, 'unmet', 'damages.jsonl'), 'utf8')) as unknown as { parts: { kl: number }[] }[];
  const values = damages[0].parts.map((part) => part.kl);
  expect(values).toHaveLength(14);
  expect(values).toEqual([...values].sort((a, b) => b - a));
  expect(values.at(-1)).toBeGreaterThan(0);
  const again = ['quantize', 'toy', '--recipe', 'unmet/recipe.json', '--out', 'unmet-again', ...small.slice(0, 6), '--text', 'text.txt'];
  expect((await lowbit(...again)).code).toBe(0);
});

it('trains as much as it takes, and saves what meets the threshold', async () => {
  const qat = [
    '--ptq',
    'rtn',
    '--qat',
    'qat:epochs=2,batchWindows=4,holdOut=0,learningRate=0.01',
    '--parts',
    'block',
    '--text',
    'sotu',
    '--json',
    '--quiet',
  ];
  const words = [...qat, ...small, ...calibrated];
  const all = await lowbit('advise', 'toy', '--threshold', 'kl=1e-9', ...words, '--report', 'all');
  const [rounded, half, whole] = linesOf(all.output).map(({ value = Number.NaN }) => value);
  expect(half).toBeLessThan(rounded);
  expect(whole).toBeLessThan(half);
  // Fresh text must be near enough to it as well.
  const threshold = 0.95 * half + 0.05 * whole;
  const met = await lowbit('advise', 'toy', '--threshold', `kl=${threshold}`, ...words, '--report', 'enough', '--out', 'enough-model');
  expect(met).toMatchObject({ code: 0, errors: '' });
  expect(linesOf(met.output).at(-1)?.advice).toMatchObject({
    isMet: true,
    value: whole,
    recipe: expect.stringMatching(/ on all 2$/) as string,
  });
  const judged = await lowbit('inspect', 'enough-model', '--json');
  const blocks = ['model.layers.0.**', 'model.layers.1.**'];
  const [, { targets }] = (JSON.parse(judged.output) as { recipe: { method: string; targets: string[] }[] }).recipe;
  expect(targets.toSorted()).toEqual(blocks);
  // Training began with the model of an earlier trial; the recipe from the dense one gives the same.
  const command = (await readFile(join(folder, 'enough', 'advice.md'), 'utf8')).trim().split('\n').at(-1)?.trim().split(' ') ?? [];
  expect((await lowbit(...command.slice(1).map((word) => (word === '<directory>' ? 'enough-again' : word)))).code).toBe(0);
  const weights = (directory: string): Promise<Buffer> => readFile(join(folder, directory, 'model.safetensors'));
  expect(await weights('enough-again')).toEqual(await weights('enough-model'));
});

it.each(['linear', 'block'])('trains nothing that the candidate left dense, by %s', async (kind) => {
  const down = ['model.layers.0.mlp.down_proj', 'model.layers.1.mlp.down_proj'];
  const words = [
    '--ptq',
    'rtn:targets=["**.down_proj"]',
    '--qat',
    'qat:epochs=1,batchWindows=4',
    '--parts',
    kind,
    '--report',
    `some-${kind}`,
  ];
  const text = ['--text', 'sotu', '--json', '--quiet'];
  const outcome = await lowbit('advise', 'toy', '--threshold', 'kl=1e-9', ...words, ...small, ...calibrated, ...text);
  const lines = linesOf(outcome.output) as { name?: string; bitsPerWeight: number; steps: { options: { targets: string[] } }[] }[];
  const [rounded, ...trained] = lines.filter(({ name }) => name !== undefined);
  expect(trained.map(({ name = '' }) => name.split(' on ')[1])).toEqual(['the worst 1 of 2', 'all 2']);
  expect(trained.map(({ steps }) => steps[1].options.targets).map((targets) => targets.length)).toEqual([1, 2]);
  expect(trained[1].steps[1].options.targets.toSorted()).toEqual(down);
  for (const { bitsPerWeight } of trained) expect(bitsPerWeight).toBe(rounded.bitsPerWeight);
});

it('leaves a report where every recipe fails, and names no model that was not saved', async () => {
  const failing = ['--ptq', 'gptq', '--calibration-windows', '100000', '--text', 'text.txt', '--json', '--quiet'];
  const words = ['advise', 'toy', '--threshold', 'kl=0.1', '--qat', 'decoupleq-sft', ...small, ...failing];
  const outcome = await lowbit(...words, '--report', 'failed', '--out', 'failed-model');
  expect(outcome.code).toBe(1);
  expect(outcome.errors).toContain('lowbit: ADVISE_FAILED: no recipe could be tried: gptq:bits=2,groupSize=16: ');
  expect(linesOf(outcome.output)).toMatchObject([{ error: expect.anything() as unknown }, { advice: { isMet: false } }]);
  expect(linesOf(outcome.output)[1]).not.toHaveProperty('out');
  expect(await readdir(join(folder, 'failed'))).toEqual(['advice.md', 'trials.jsonl']);
  expect(existsSync(join(folder, 'failed-model'))).toBe(false);
});

describe('refused before anything is read', () => {
  const metric = ['--threshold', 'kl=0.1'];
  it.each([
    [['--threshold', 'k1=0.1'], 'THRESHOLD_METRIC'],
    [['--threshold', 'kl=low'], 'THRESHOLD_VALUE'],
    [[...metric, '--ptq', 'rtnn'], 'METHOD_UNKNOWN'],
    [[...metric, '--ptq', 'rtn:bits'], 'RECIPE_SYNTAX: --ptq rtn:bits'],
    [[...metric, '--ptq', 'rtn', '--bits', '9'], 'OPTIONS_INVALID'],
    [[...metric, '--ptq', 'rtn', '--group-size', '24'], 'GROUP_SIZE'],
    [[...metric, '--ptq', 'lrec'], 'ADVISE_CANDIDATE'],
    [[...metric, '--ptq', 'quad:rank=4+rtn'], 'ADVISE_CANDIDATE'],
    [[...metric, '--ptq', 'rtn', '--group-size', '16', '--qat', 'rtn'], 'ADVISE_TUNER'],
    [[...metric, '--ptq', 'rtn', '--group-size', '16', '--qat', 'decoupleq-sft:targets=["**.q_proj"]'], 'ADVISE_TUNER'],
  ])('%j: %s', async (words, code) => {
    const outcome = await lowbit('advise', 'toy', '--report', 'refused/toy', '--qat', 'decoupleq-sft', ...words);
    expect(outcome).toMatchObject({ code: 2, output: '' });
    expect(outcome.errors).toContain(`lowbit: ${code}`);
    expect(existsSync(join(folder, 'refused'))).toBe(false);
  });

  it.each([[[]], [['--threshold', 'kl=0.1', '--bits', '2,x']], [['--threshold', 'kl=0.1', '--bits', '2,2']]])('%j', async (words) => {
    expect(await lowbit('advise', 'toy', ...words)).toMatchObject({ code: 2, output: '' });
  });

  it('a directory that is the model', async () => {
    const outcome = await lowbit(
      'advise',
      'toy',
      ...metric,
      ...quick,
      '--group-size',
      '16',
      '--report',
      'source',
      '--out',
      'toy',
      '--force',
    );
    expect(outcome.code).toBe(2);
    expect(outcome.errors).toContain('OUTPUT_IS_SOURCE');
    expect(existsSync(join(folder, 'source'))).toBe(false);
  });
});

it('refuses one directory for the report and the model', async () => {
  const words = ['advise', 'toy', '--threshold', 'kl=0.1', ...quick, '--group-size', '16', '--report', 'both', '--out', './both'];
  const outcome = await lowbit(...words);
  expect(outcome).toMatchObject({ code: 2, output: '' });
  expect(outcome.errors).toContain('lowbit: OUTPUT_IS_REPORT');
  expect(existsSync(join(folder, 'both'))).toBe(false);
});

it('is cancelled with 130 and leaves no directory', async () => {
  const outcome = await runIn(
    folder,
    ['advise', 'toy', '--threshold', 'kl=0.1', ...quick, ...small, '--report', 'cancelled', '--out', 'cancelled-model'],
    AbortSignal.abort(),
  );
  expect(outcome.code).toBe(130);
  expect(outcome.errors).toContain('ABORTED');
  expect(existsSync(join(folder, 'cancelled'))).toBe(false);
  expect(existsSync(join(folder, 'cancelled-model'))).toBe(false);
});

describe('candidates', () => {
  const settings = { bits: [2, 3], groupSize: 32 };
  it('get bits and groups where they leave them out and take them', async () => {
    const names = (await adviceCandidates(['rtn', 'gptq:groupSize=64,clip=mse'], settings, folder)).map(
      ({ name, bits }) => `${bits} ${name}`,
    );
    expect(names).toEqual([
      '2 rtn:bits=2,groupSize=32',
      '2 gptq:bits=2,groupSize=64,clip=mse',
      '3 rtn:bits=3,groupSize=32',
      '3 gptq:bits=3,groupSize=64,clip=mse',
    ]);
  });

  it('that say their bits come once, and steps that take none stay as they are', async () => {
    const candidates = await adviceCandidates(['rtn:bits=4+lrec:rank=2'], settings, folder);
    expect(candidates).toEqual([
      {
        name: 'rtn:bits=4,groupSize=32+lrec:rank=2',
        bits: 4,
        steps: [
          { method: 'rtn', options: { bits: 4, groupSize: 32 } },
          { method: 'lrec', options: { rank: 2 } },
        ],
      },
    ]);
  });
});
