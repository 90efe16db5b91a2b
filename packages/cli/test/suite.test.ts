// Tasks of the literature on the command line: eval and bench judge by them, and what is wrong with the options is said plainly.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { commandIn, toyFolder } from './toy-folder.js';

const folder = toyFolder();
const lowbit = commandIn(folder);
beforeAll(async () => {
  const jsonl = (count: number, record: (i: number) => unknown): string =>
    Array.from({ length: count }, (_, i) => `${JSON.stringify(record(i))}\n`).join('');
  const piqa = (i: number): unknown => ({ goal: `goal ${i}`, sol1: 'abc', sol2: 'a bad cab', label: i % 2 });
  await mkdir(join(folder, 'tasks', 'piqa'), { recursive: true });
  await writeFile(join(folder, 'tasks', 'piqa', 'validation-00000-of-00001.jsonl'), jsonl(6, piqa));
  await writeFile(join(folder, 'tasks', 'piqa.train.jsonl'), jsonl(4, piqa));
  await writeFile(
    join(folder, 'tasks', 'lambada_openai.test.jsonl'),
    jsonl(4, (i) => ({ text: `a word ${i} and one` })),
  );
  // As in the repository of GLUE on the hub: two splits that are judged, and one to draw solved examples from.
  const mnli = (word: string) => (i: number) => ({ premise: `a ${word} ${i}`, hypothesis: 'it is', label: i % 3 });
  await mkdir(join(folder, 'glue', 'mnli'), { recursive: true });
  for (const [split, count] of [
    ['train', 3],
    ['validation_matched', 4],
    ['validation_mismatched', 5],
  ] as const)
    await writeFile(join(folder, 'glue', 'mnli', `${split}-00000-of-00001.jsonl`), jsonl(count, mnli(split)));
  await mkdir(join(folder, 'arc', 'ARC-Easy'), { recursive: true });
  const arc = (i: number): unknown => ({ question: `${i}?`, choices: { text: ['a', 'b'], label: ['A', 'B'] }, answerKey: 'A' });
  await writeFile(join(folder, 'arc', 'ARC-Easy', 'test-00000-of-00001.jsonl'), jsonl(3, arc));
  await writeFile(
    join(folder, 'tasks', 'rte.validation.jsonl'),
    jsonl(2, (i) => ({ sentence1: `${i}`, sentence2: 'b', label: -1 })),
  );
});

interface Row {
  readonly evaluator: string;
  readonly value: number | null;
  readonly samples?: number;
  readonly recipe?: string;
  readonly protocol?: Readonly<Record<string, unknown>>;
  readonly error?: { readonly code: string };
}
const rowsOf = (output: string): Row[] =>
  output
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Row);
const engine = ['--threads', '1', '--json', '--quiet'];

describe('--tasks', () => {
  it('are what eval judges by, with solved examples before the questions where they are asked for', async () => {
    const tasks = ['--tasks', 'piqa, lambada_openai', '--task-data', 'tasks'];
    const all = rowsOf((await lowbit('eval', 'toy', ...tasks, ...engine)).output);
    expect(all.map(({ evaluator, samples }) => [evaluator, samples]).slice(-4)).toEqual([
      ['piqa/acc', 6],
      ['piqa/acc_norm', 6],
      ['lambada_openai/perplexity', 4],
      ['lambada_openai/acc', 4],
    ]);
    expect(all.map(({ evaluator }) => evaluator)).not.toContain('perplexity');
    const shown = ['--tasks', 'piqa', '--task-data', 'tasks', '--task-shots', '2', '--task-items', '3'];
    const [acc] = rowsOf((await lowbit('eval', 'toy', ...shown, '--evaluators', 'size', ...engine)).output).slice(-2);
    expect(acc).toMatchObject({ evaluator: 'piqa/acc', samples: 3, protocol: { shots: { count: 2, file: 'piqa.train.jsonl' } } });
  });

  it('are found by the names that a dataset has for them, and never one in place of another', async () => {
    const sources = async (tasks: string, data: string, ...more: readonly string[]): Promise<unknown[]> => {
      const { output } = await lowbit('eval', 'toy', '--tasks', tasks, '--task-data', data, ...more, '--evaluators', 'size', ...engine);
      const scores = rowsOf(output).filter(({ evaluator }) => evaluator.endsWith('/acc'));
      return scores.map(({ evaluator, samples, protocol }) => [evaluator, samples, protocol?.file]);
    };
    expect(await sources('mnli,mnli_mismatch', 'glue', '--task-shots', '1')).toEqual([
      ['mnli/acc', 4, 'validation_matched-00000-of-00001.jsonl'],
      ['mnli_mismatch/acc', 5, 'validation_mismatched-00000-of-00001.jsonl'],
    ]);
    expect(await sources('arc_easy', 'arc/ARC-Easy')).toEqual([['arc_easy/acc', 3, 'test-00000-of-00001.jsonl']]);
    expect(await sources('arc_easy', 'arc')).toEqual([['arc_easy/acc', 3, 'test-00000-of-00001.jsonl']]);
  });

  it('are rows of every cell of a benchmark', async () => {
    const words = ['--model', 'toy', '--recipe', 'rtn:bits=4,groupSize=16', '--evaluators', 'size', '--seeds', '0'];
    const { code, output } = await lowbit('bench', ...words, '--tasks', 'piqa', '--task-data', 'tasks', ...engine);
    expect(code).toBe(0);
    const rows = rowsOf(output).filter(({ evaluator }) => evaluator.startsWith('piqa/'));
    expect(rows.map(({ recipe, evaluator }) => [recipe, evaluator])).toEqual([
      ['dense', 'piqa/acc'],
      ['dense', 'piqa/acc_norm'],
      ['rtn:bits=4,groupSize=16', 'piqa/acc'],
      ['rtn:bits=4,groupSize=16', 'piqa/acc_norm'],
    ]);
  });

  it.each([
    ['TASK_UNKNOWN', ['--tasks', 'piqqa', '--task-data', 'tasks']],
    ['TASK_OPTIONS', ['--tasks', 'piqa']],
    ['TASK_OPTIONS', ['--task-items', '3']],
    ['TASK_MISSING', ['--tasks', 'arc_easy', '--task-data', 'tasks']],
    ['TASK_MISSING', ['--tasks', 'piqa', '--task-data', 'nowhere']],
    // The files of this folder fit both, and are of one.
    ['TASK_MISSING', ['--tasks', 'arc_easy,arc_challenge', '--task-data', 'arc/ARC-Easy']],
    ['TASK_FIELD', ['--tasks', 'rte', '--task-data', 'tasks']],
    ['TASK_SHOTS', ['--tasks', 'piqa', '--task-data', 'tasks', '--task-shots', '4']],
  ])('%s for %j', async (code, words) => {
    const { code: exit, errors } = await lowbit('eval', 'toy', '--evaluators', 'size', ...words, ...engine);
    expect(exit).not.toBe(0);
    expect(errors).toContain(code);
  });
});
