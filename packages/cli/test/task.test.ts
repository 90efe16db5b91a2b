// Tasks on the command line: tuned for, judged by, compared over seeds, and what is wrong with them said plainly.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { commandIn, toyFolder } from './toy-folder.js';

const example = (i: number): string => `${['red apple', 'green leaf', 'red rose', 'green pea'][i % 4]} ${'abcdefgh'[i % 8]}${i}`;
const folder = toyFolder(Array.from({ length: 40 }, (_, i) => `Line ${i}: ${example(i)} and so on.`).join('\n'));
const lowbit = commandIn(folder);
beforeAll(async () => {
  const rows = Array.from({ length: 40 }, (_, i) => `${example(i)}\t${i % 2}`);
  await writeFile(join(folder, 'all.tsv'), ['what\tlabel', ...rows].join('\n'));
  await writeFile(join(folder, 'bare.tsv'), rows.slice(0, 8).join('\n'));
  await writeFile(join(folder, 'empty.jsonl'), '\n');
});

const scoresOf = (output: string) =>
  output
    .trim()
    .split('\n')
    .map(
      (line) =>
        JSON.parse(line) as {
          evaluator: string;
          value: number;
          recipe?: string;
          seed?: number;
          protocol: Record<string, unknown>;
          task?: unknown;
        },
    );
const template = ['--template', '{what}:{label}', '--labels', '0=x,1=y'];
const engine = ['--threads', '1'];
const text = ['--text', 'text.txt', '--windows', '4', '--window', '32'];
const recipe = 'rtn:bits=8,groupSize=16+emef:rank=2,epochs=10,batchWindows=12,learningRate=0.02';

describe('--task', () => {
  it('is what a model is tuned for by quantize, and what eval judges the result by', async () => {
    const task = ['--task', 'all.tsv', ...template, '--task-dev', '0.25'];
    const tuned = await lowbit('quantize', 'toy', '--recipe', recipe, '--out', 'tuned', ...task, ...text, ...engine);
    expect(tuned).toMatchObject({ code: 0 });
    expect(tuned.errors).toContain('task: all.tsv, 2 labels, 30 train and 10 dev examples');
    const told = await lowbit('inspect', 'tuned', '--json');
    expect(JSON.parse(told.output).task).toMatchObject({
      description: expect.stringContaining('all.tsv, 2 labels'),
      hash: expect.stringMatching(/^[0-9a-f]{64}$/),
      protocol: { template: '{what}:{label}', labels: { 0: 'x', 1: 'y' }, train: { source: 'all.tsv', examples: 30 } },
    });
    expect((await lowbit('inspect', 'tuned')).output).toContain('tuned for all.tsv');
    const judge = async (model: string) => scoresOf((await lowbit('eval', model, ...task, ...engine, '--json', '--quiet')).output);
    const [before, after] = [await judge('toy'), await judge('tuned')];
    expect(after.map(({ evaluator }) => evaluator)).toEqual([
      'task-accuracy',
      'task-loss',
      'bits-per-weight',
      'bits-per-weight-whole-model',
    ]);
    expect(after[1].value).toBeLessThan(0.7 * before[1].value);
    expect(after[0].value).toBeGreaterThan(0.7);
    expect(after[0].protocol).toMatchObject({
      template: '{what}:{label}',
      labels: { 0: 'x', 1: 'y' },
      split: 'a drawn share of 0.25',
      part: 'dev',
    });
    expect(after[0].protocol['taskSha256']).toBe(before[0].protocol['taskSha256']);
  });

  it('is judged in bench beside the text, for every seed; recipes that are not tuned for tasks are judged as they are', async () => {
    const task = ['--task', 'all.tsv', ...template, '--task-limit', '24,8'];
    const quick = 'rtn:bits=8,groupSize=16+emef:rank=2,epochs=1,batchWindows=12';
    const recipes = ['--recipe', 'rtn:bits=4,groupSize=16', '--recipe', quick];
    const { code, output } = await lowbit(
      'bench',
      '--model',
      'toy',
      ...recipes,
      '--seeds',
      '0',
      '--seeds',
      '1',
      ...task,
      ...text,
      ...engine,
      '--json',
      '--quiet',
    );
    expect(code).toBe(0);
    const rows = scoresOf(output).filter(({ evaluator }) => evaluator === 'task-accuracy');
    expect(rows.map(({ seed }) => seed)).toEqual([0, 0, 1, 0, 1]);
    expect(rows.map(({ task: tuned }) => tuned !== undefined)).toEqual([false, false, false, true, true]);
    expect(new Set(rows.map(({ protocol }) => protocol['taskSha256'])).size).toBe(1);
    expect(scoresOf(output).some(({ evaluator }) => evaluator === 'perplexity')).toBe(true);
  });

  it('may be plain text, of which a part is held out', async () => {
    const { code, output, errors } = await lowbit(
      'eval',
      'toy',
      '--task',
      'text.txt',
      '--documents',
      'lines',
      '--task-length',
      '16',
      ...engine,
    );
    expect(code).toBe(0);
    expect(errors).toMatch(/task: text\.txt, plain text, \d+ train and \d+ dev windows of 16/);
    expect(output).toMatch(/task-loss +\d/);
  });

  it('is grouped in the help', async () => {
    const { output } = await lowbit('eval', '--help');
    expect(output).toMatch(/Task:\n +--task <source>/);
  });

  it.each<[string, string[], RegExp]>([
    ['a file that is not there', ['--task', 'none.tsv', ...template], /TASK_MISSING: .*none\.tsv/],
    ['an empty file', ['--task', 'empty.jsonl', ...template], /TASK_EMPTY: .*empty\.jsonl/],
    [
      'an unknown field',
      ['--task', 'all.tsv', '--template', '{word}:{label}', '--labels', '0=x,1=y'],
      /TASK_FIELD: all\.tsv:\d+: no field 'word'; it has what, label/,
    ],
    ['a file without a header line', ['--task', 'bare.tsv', ...template], /TASK_FIELD: .*name its columns/],
    [
      'a label without a word',
      ['--task', 'all.tsv', '--template', '{what}:{label}', '--labels', '0=x,2=y'],
      /TASK_LABEL: .*'1', which has no word; labels are 0, 2/,
    ],
    ['a word of several tokens', ['--task', 'all.tsv', '--template', '{what}:{label}', '--labels', '0=no,1=y'], /LABEL_WORD: label '0'/],
    ['a template for nothing', ['--template', '{a} {b}'], /TASK_OPTIONS: --template/],
    ['columns of plain text', ['--task', 'text.txt', '--task-columns', 'a,b'], /TASK_OPTIONS: .*text\.txt: takes no columns/],
    ['a share of plain text', ['--task', 'text.txt', '--task-dev', '0.5'], /TASK_OPTIONS: .*a tenth/],
    ['examples without a template', ['--task', 'all.tsv'], /TASK_OPTIONS: .*need a template/],
    ['a dev file of a task that has one', ['--task', 'sotu-era', '--task-dev', 'all.tsv'], /TASK_OPTIONS: sotu-era: takes no dev/],
    ['examples beyond the context', ['--task', 'all.tsv', ...template, '--task-length', '65'], /WINDOW_CONTEXT/],
    ['labels that are none', ['--task', 'all.tsv', '--labels', 'x'], /--labels.*two or more/],
    ['a share that is none', ['--task', 'all.tsv', '--task-dev', '1.5'], /--task-dev.*between 0 and 1/],
    ['three counts', ['--task', 'all.tsv', '--task-limit', '1,2,3'], /--task-limit.*one or two/],
    ['an evaluator without a task', ['--evaluators', 'task'], /EVALUATOR_TASK/],
  ])('refuses %s', async (_what, words, message) => {
    const outcome = await lowbit('eval', 'toy', ...words, ...engine);
    expect(outcome).toMatchObject({ code: 2, output: '' });
    expect(outcome.errors).toMatch(message);
  });

  it('is refused where no step is tuned for one', async () => {
    const outcome = await lowbit(
      'quantize',
      'toy',
      '--recipe',
      'rtn',
      '--out',
      'unused',
      '--task',
      'all.tsv',
      ...template,
      ...text,
      ...engine,
    );
    expect(outcome.code).toBe(2);
    expect(outcome.errors).toMatch(/TASK_UNUSED: all\.tsv.*\(rtn\)/);
  });
});
