// Solved examples before a question: drawn as Python's random.Random(seed).sample draws them.
import type { RecordTable } from '@lowbit/data';
import { describe, expect, it } from 'vitest';
import { choiceTasks } from '../src/index.js';
import { shotTexts } from '../src/tasks/few-shot.js';
import { pythonRandom } from '../src/tasks/python-random.js';

describe('pythonRandom', () => {
  // What CPython 3.11 gives.
  it.each([
    [
      1234,
      40,
      2,
      4,
      [
        [28, 7],
        [0, 5],
        [37, 2],
        [5, 6],
      ],
    ],
    [
      1234,
      10,
      3,
      3,
      [
        [7, 1, 0],
        [1, 0, 9],
        [1, 5, 3],
      ],
    ],
    [
      7,
      1000,
      8,
      2,
      [
        [331, 970, 154, 404, 666, 49, 74, 840],
        [548, 96, 374, 596, 59, 931, 519, 219],
      ],
    ],
  ])('draws as random.Random(%d).sample(range(%d), %d) does', (seed, size, count, times, expected) => {
    const random = pythonRandom(seed);
    expect(Array.from({ length: times }, () => random.sample(size, count))).toEqual(expected);
  });

  it('keeps to the sizes where Python changes its way, and beyond the first words of its state', () => {
    const zero = pythonRandom(0);
    expect([zero.sample(86, 6), zero.sample(85, 6), zero.sample(1, 1), zero.sample(200000, 3)]).toEqual([
      [49, 53, 5, 33, 65, 62],
      [51, 38, 61, 45, 74, 27],
      [0],
      [73882, 36633, 198129],
    ]);
    const largest = pythonRandom(2 ** 32 - 1);
    const draws = Array.from({ length: 60 }, () => largest.sample(30, 25));
    expect(draws[59]).toEqual([20, 14, 6, 7, 10, 18, 17, 4, 16, 8, 15, 29, 23, 9, 25, 22, 0, 24, 5, 2, 27, 28, 21, 3, 13]);
    const other = pythonRandom(42);
    expect(Array.from({ length: 300 }, () => other.sample(64, 5))[299]).toEqual([20, 22, 46, 28, 15]);
  });
});

const table = (name: string, values: readonly Record<string, unknown>[]): RecordTable => ({
  ...{ name, sha256: '' },
  records: values.map((value, i) => ({ where: `${name}:${i + 1}`, value })),
});
const sst2 = choiceTasks.get('sst2')!;
const train = table(
  'sst2.train.jsonl',
  Array.from({ length: 40 }, (_, i) => ({ sentence: `s${i}`, label: i % 2 })),
);
const solved = (i: number): string =>
  `s${i}\nQuestion: Is this sentence positive or negative?\nAnswer: ${i % 2 === 0 ? 'negative' : 'positive'}\n\n`;

describe('shotTexts', () => {
  it('are solved examples in the order in which they are drawn, others for each question', () => {
    const questions = table('q', [
      { sentence: 'a', label: 0 },
      { sentence: 'b', label: 1 },
    ]).records;
    // One more is drawn than is shown, for a task without a test split.
    const random = pythonRandom(1234);
    const drawn = questions.map(() => random.sample(40, 3).slice(0, 2));
    expect(shotTexts(sst2, questions, { count: 2, from: train })).toEqual(drawn.map((two) => two.map(solved).join('')));
  });

  it('never show the question itself', () => {
    const texts = shotTexts(sst2, train.records, { count: 39, from: train });
    for (const [i, text] of texts.entries()) expect(text).not.toContain(`s${i}\n`);
    expect(new Set(texts).size).toBe(40);
  });

  it('put a space before the answer, even where the ending has its own', () => {
    const lambada = choiceTasks.get('lambada_openai')!;
    const { records } = table('q', [{ text: 'one two' }]);
    expect(shotTexts(lambada, records, { count: 1, from: table('t', [{ text: 'red ball' }]) })).toEqual(['red  ball\n\n']);
  });

  it('TASK_SHOTS for more than there are', () => {
    expect(() => shotTexts(sst2, train.records, { count: 40, from: train })).toThrow(expect.objectContaining({ code: 'TASK_SHOTS' }));
  });
});
