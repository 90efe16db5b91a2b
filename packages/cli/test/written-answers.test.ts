// lowbit eval with tasks whose answers a model writes: scores, the file of answers, and programs that run only when that is allowed.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LowbitError } from '@lowbit/core';
import { openCodeSandbox } from '@lowbit/eval';
import { beforeAll, describe, expect, it } from 'vitest';
import { runIn, toyFolder } from './toy-folder.js';

const folder = toyFolder();
beforeAll(async () => {
  const lines = (records: readonly object[]): string => records.map((record) => `${JSON.stringify(record)}\n`).join('');
  const sums = Array.from({ length: 6 }, (_, i) => ({ question: `${i}+1?`, answer: `#### ${i + 1}` }));
  await writeFile(join(folder, 'gsm8k.test.jsonl'), lines(sums.slice(0, 3)));
  await writeFile(join(folder, 'gsm8k.train.jsonl'), lines(sums));
  // Whatever single character the model writes, it ends up in a comment.
  const problem = { prompt: '#', canonical_solution: '', entry_point: 'check', test: 'def check(candidate): pass' };
  await writeFile(join(folder, 'humaneval.test.jsonl'), lines([problem, { ...problem, test: 'def check(candidate): assert False' }]));
});

async function evaluate(...args: readonly string[]) {
  const engine = ['--threads', '1', '--quiet', '--json', '--evaluators', 'size', '--task-data', folder];
  const { code: status, output, errors } = await runIn(folder, ['eval', 'toy', ...engine, ...args]);
  const scores = output.trim().split('\n').filter(Boolean);
  return { status, errors, scores: scores.map((line) => JSON.parse(line) as Record<string, unknown>).slice(2) };
}

describe('answers that a model writes', () => {
  it('are judged on the command line, and kept in a file with their judgement', async () => {
    const { status, scores, errors } = await evaluate(
      ...['--tasks', 'gsm8k', '--task-shots', '1', '--task-items', '2', '--task-tokens', '5', '--answers', 'answers.jsonl'],
    );
    expect(errors).toBe('');
    expect(status).toBe(0);
    expect(scores.map(({ evaluator, samples }) => [evaluator, samples])).toEqual([
      ['gsm8k/strict-match', 2],
      ['gsm8k/flexible-extract', 2],
    ]);
    expect(scores[0]).toMatchObject({ protocol: { maxTokens: 5, shots: { count: 1, file: 'gsm8k.train.jsonl' }, decoding: 'greedy' } });
    const answers = (await readFile(join(folder, 'answers.jsonl'), 'utf8')).trim().split('\n');
    expect(answers.map((line) => JSON.parse(line) as object)).toMatchObject(
      [0, 1].map((i) => ({
        ...{ task: 'gsm8k', where: `gsm8k.test.jsonl:${i + 1}`, values: { 'strict-match': 0 }, sha256: expect.any(String) },
        prompt: expect.stringMatching(new RegExp(`^Question: .*\\nAnswer: #### \\d\\n\\nQuestion: ${i}\\+1\\?\\nAnswer:$`)),
      })),
    );
  });

  it.each([
    ['CODE_EXECUTION', ['--tasks', 'humaneval']],
    ['TASK_MISSING', ['--tasks', 'gsm8k', '--task-data', 'nowhere']],
    ['OUTPUT_FILE', ['--tasks', 'gsm8k', '--answers', 'missing/answers.jsonl']],
    ['TASK_OPTIONS', ['--tasks', 'lambada_openai', '--answers', 'unused.jsonl']],
    ['TASK_OPTIONS', ['--tasks', 'gsm8k', '--force']],
    // A context of 64 tokens has no room for answers of 256.
    ['CONTEXT_LENGTH', ['--tasks', 'gsm8k', '--task-shots', '0']],
  ])('%s: %j is refused', async (code, args) => {
    const { status, errors, scores } = await evaluate(...args);
    expect(errors).toContain(`${code}: `);
    expect(status).toBeGreaterThan(0);
    expect(scores).toEqual([]);
  });

  it('are not lost to a later run, nor to one that cannot begin', async () => {
    const path = join(folder, 'kept.jsonl');
    await writeFile(path, 'an hour of answers\n');
    const gsm8k = ['--tasks', 'gsm8k', '--task-shots', '0', '--task-items', '1', '--task-tokens', '5', '--answers', 'kept.jsonl'];
    const again = await evaluate(...gsm8k);
    expect(again.errors).toMatch(/OUTPUT_EXISTS: --answers: .*kept\.jsonl is there already; .*--force/);
    for (const words of [
      ['--tasks', 'humaneval', '--answers', 'kept.jsonl', '--force'],
      [...gsm8k, '--force', '--task-data', 'nowhere'],
      [...gsm8k, '--force', '--evaluators', 'text', '--text', 'missing.txt'],
    ])
      expect((await evaluate(...words)).status).toBeGreaterThan(0);
    expect(await readFile(path, 'utf8')).toBe('an hour of answers\n');
    expect((await evaluate(...gsm8k, '--force')).status).toBe(0);
    expect(JSON.parse(await readFile(path, 'utf8'))).toMatchObject({ task: 'gsm8k' });
  });

  it('TASK_OPTIONS: options without tasks are refused', async () => {
    const { code, errors } = await runIn(folder, ['eval', 'toy', '--allow-code-execution']);
    expect(code).toBe(2);
    expect(errors).toContain('TASK_OPTIONS: --allow-code-execution: is about --tasks');
  });

  it('are run as programs where that is allowed', async (context) => {
    const refused = await openCodeSandbox().then(
      () => undefined,
      (error: unknown) => error,
    );
    // A system without namespaces to shut programs in, or without Python, may run none: the error says which it lacks.
    if (refused instanceof LowbitError) context.skip(`skipped since programs cannot be shut in on this machine: ${refused.message}`);
    const judge = async () => {
      const words = ['--tasks', 'humaneval', '--task-tokens', '1', '--allow-code-execution', '--answers', 'programs.jsonl', '--force'];
      const outcome = await evaluate(...words);
      const lines = (await readFile(join(folder, 'programs.jsonl'), 'utf8')).trim().split('\n');
      return { ...outcome, judged: lines.map((line) => JSON.parse(line) as { values: Record<string, number>; reason: string }) };
    };
    let outcome = await judge();
    // The command's limit of three seconds is HumanEval's, and says nothing where another process held the machine for as long: once more.
    for (let tries = 1; tries < 5 && outcome.judged.some(({ reason }) => reason.startsWith('timeout')); tries++) outcome = await judge();
    const { status, scores, errors, judged } = outcome;
    expect(errors).toBe('');
    expect(status).toBe(0);
    expect(judged).toMatchObject([
      { values: { 'pass@1': 1 }, reason: 'passed' },
      { values: { 'pass@1': 0 }, reason: expect.stringMatching(/^failed: AssertionError/) },
    ]);
    expect(scores).toMatchObject([{ evaluator: 'humaneval/pass@1', value: 0.5, samples: 2, protocol: { sandbox: { seconds: 3 } } }]);
  });
});
