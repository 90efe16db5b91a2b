// A choice task from records to scores on a toy model.
import { createHash } from 'node:crypto';
import { createReferenceBackend, type ReferenceBackend } from '@lowbit/backend-reference';
import type { RecordTable } from '@lowbit/data';
import { beforeAll, describe, expect, it } from 'vitest';
import { choiceEvaluator, choiceTasks, judgeChoices } from '../src/index.js';
import { letterTokenizer } from './letters.js';
import { logProbabilities, toyModel } from './toy.js';

const model = toyModel();
const tokenizer = letterTokenizer();
const task = choiceTasks.get('openbookqa')!;
let backend: ReferenceBackend;
beforeAll(async () => {
  backend = await createReferenceBackend();
});

const words = ['cab', 'dad', 'gap', 'o', 'babe', 'deaf'];
const recordsOf = (count: number): RecordTable => ({
  name: 'openbookqa.test.jsonl',
  sha256: 'f'.repeat(64),
  records: Array.from({ length: count }, (_, i) => ({
    where: `openbookqa.test.jsonl:${i + 1}`,
    value: {
      question_stem: words[i % 5],
      choices: { text: words.slice(i % 3, (i % 3) + 3), label: ['A', 'B', 'C'] },
      answerKey: 'ABC'[i % 3],
    },
  })),
});

/** By one text at a time, in float64. */
async function bestOf(prompt: string, endings: readonly string[]): Promise<{ acc: number; norm: number }> {
  const sums: number[] = [];
  for (const ending of endings) {
    const [before, whole] = [tokenizer.encode(prompt, { bos: true }).length, tokenizer.encode(`${prompt} ${ending}`, { bos: true })];
    const rows = await logProbabilities(backend, model, whole.subarray(0, -1));
    sums.push([...whole.subarray(before)].reduce((sum, token, i) => sum + rows[before - 1 + i][token], 0));
  }
  const norm = sums.map((sum, i) => sum / endings[i].length);
  return { acc: sums.indexOf(Math.max(...sums)), norm: norm.indexOf(Math.max(...norm)) };
}

describe('choiceEvaluator', () => {
  it('counts the questions whose likeliest answer is the right one', async () => {
    const records = recordsOf(12);
    const scores = await choiceEvaluator({ task, records, tokenizer }).evaluate(model, { backend });
    let [acc, norm] = [0, 0];
    for (const { value } of records.records) {
      const { text, label } = value.choices as { text: string[]; label: string[] };
      const best = await bestOf(value.question_stem as string, text);
      acc += Number(label[best.acc] === value.answerKey);
      norm += Number(label[best.norm] === value.answerKey);
    }
    expect(scores.map(({ evaluator, value }) => [evaluator, value])).toEqual([
      ['openbookqa/acc', acc / 12],
      ['openbookqa/acc_norm', norm / 12],
    ]);
    expect(scores.every(({ samples, higherIsBetter, version }) => samples === 12 && higherIsBetter && version === task.version)).toBe(true);
  });

  it('says in its protocol what was read, and how the questions are hashed', async () => {
    const records = recordsOf(4);
    const [{ protocol }] = await choiceEvaluator({ task, records, tokenizer, limit: 2 }).evaluate(model, { backend });
    const hash = (text: string): string => createHash('sha256').update(text).digest('hex');
    const hashes = records.records.slice(0, 2).map(({ value }) => hash(JSON.stringify(value, null, 2)));
    expect(protocol).toMatchObject({
      task: 'openbookqa',
      split: 'test',
      file: records.name,
      fileSha256: records.sha256,
      examples: 2,
      examplesSha256: hash(hashes.join('')),
      shots: { count: 0 },
      bos: 'document',
      contextLength: 16,
      shortenedPrompts: 0,
    });
  });

  it('says in its protocol of how many questions the beginning was left out', async () => {
    const table = recordsOf(3);
    const long = { ...table.records[1].value, question_stem: 'dad dad dad dad dad' };
    const records = { ...table, records: [table.records[0], { ...table.records[1], value: long }, table.records[2]] };
    const scores = await choiceEvaluator({ task, records, tokenizer }).evaluate(model, { backend });
    expect(scores.map(({ protocol }) => protocol.shortenedPrompts)).toEqual([1, 1]);
  });

  it('shows solved examples before the question, and reads what fits', async () => {
    const records = recordsOf(6);
    const shots = { count: 2, from: recordsOf(3) };
    const judged = await judgeChoices(model, { task, records, tokenizer, shots }, { backend });
    for (const [i, { prompts }] of judged.entries()) {
      const stem = records.records[i].value.question_stem as string;
      expect(prompts[0]).toMatch(new RegExp(`^(\\w+ \\w+\\n\\n){2}${stem}$`));
    }
    const [{ protocol }] = await choiceEvaluator({ task, records, tokenizer, shots }).evaluate(model, { backend });
    expect(protocol.shots).toEqual({ count: 2, file: records.name, fileSha256: records.sha256, seed: 1234 });
  });

  it('judges LAMBADA by what greedy decoding writes', async () => {
    const lambada = choiceTasks.get('lambada_openai')!;
    const records: RecordTable = { name: 'l', sha256: '', records: [{ where: 'l:1', value: { text: 'cab dad' } }] };
    const scores = await choiceEvaluator({ task: lambada, records, tokenizer }).evaluate(model, { backend });
    const { logLikelihoods } = (await judgeChoices(model, { task: lambada, records, tokenizer }, { backend }))[0];
    expect(scores.map(({ evaluator }) => evaluator)).toEqual(['lambada_openai/perplexity', 'lambada_openai/acc']);
    expect(scores[0].value).toBeCloseTo(Math.exp(-logLikelihoods[0]), 9);
    expect(scores[0].higherIsBetter).toBe(false);
  });
});
