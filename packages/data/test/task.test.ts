// Tasks from files: every example once, only what is to be predicted weighs, and what is wrong with a file is said where it is.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createRng, type TaskExamples } from '@lowbit/core';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  buildTask,
  corpusOf,
  createTokenizer,
  describeTask,
  readTaskFile,
  sotuEraTables,
  type TaskOptions,
  taskTable,
  textTask,
} from '../src/index.js';
import { smallConfig, smallTokenizer } from './small-tokenizer.js';

const tokenizer = createTokenizer(smallTokenizer(), smallConfig);
const [hello] = tokenizer.encode('hello').slice(-1);
const [world] = tokenizer.encode('a world').slice(-1);
const labels = { good: 'hello', bad: 'world' };
const options: TaskOptions = { template: '{sentence} a {label}', labels, tokenizer, length: 64, rng: createRng(0) };

const sentences = fc.array(fc.string({ unit: fc.constantFrom(...'abcdehlorw. '), minLength: 1, maxLength: 30 }), {
  minLength: 2,
  maxLength: 30,
});
const tableOf = (texts: readonly string[]) =>
  taskTable(
    'test',
    texts.map((sentence, i) => ({ sentence, label: i % 3 === 0 ? 'good' : 'bad' })),
  );

/** Tokens of each example up to the last predicted one, and the predicted positions. */
function rowsOf({ count, length, tokens, weights }: TaskExamples): { ids: number[]; predicted: number[]; rest: number[] }[] {
  return Array.from({ length: count }, (_, row) => {
    const own = Array.from(weights.subarray(row * length, (row + 1) * length));
    const predicted = own.flatMap((w, t) => (w === 0 ? [] : [t]));
    const end = (predicted.at(-1) ?? 0) + 2;
    const all = Array.from(tokens.subarray(row * length, (row + 1) * length));
    return { ids: all.slice(0, end), predicted, rest: all.slice(end) };
  });
}

describe('buildTask', () => {
  it('has every example once, with its label behind it and a weight on nothing else', () => {
    fc.assert(
      fc.property(sentences, fc.integer({ min: 6, max: 40 }), (texts, length) => {
        const { task, report } = buildTask(tableOf(texts), { ...options, length });
        expect([...(task.candidates ?? [])]).toEqual([hello, world]);
        expect(report.train.kept + report.dev.kept).toBe(texts.length);
        const encoded = texts.map((sentence, i) => {
          const ids = tokenizer.encode(`${sentence} a`, { bos: true });
          const cut = ids.length + 1 > length ? [ids[0], ...ids.subarray(ids.length + 2 - length)] : [...ids];
          return [...cut, i % 3 === 0 ? hello : world].join();
        });
        const found = [task.train, task.dev].flatMap(rowsOf);
        expect(found.map(({ ids }) => ids.join()).sort()).toEqual(encoded.sort());
        for (const { ids, predicted, rest } of found) {
          expect(predicted).toEqual([ids.length - 2]);
          expect(rest.every((token) => token === 0)).toBe(true);
        }
        expect(new Set([...task.train.weights, ...task.dev.weights])).toEqual(new Set([0, 1]));
        expect(task.train.length).toBe(task.dev.length);
        expect(task.train.length).toBeLessThanOrEqual(length);
      }),
      { numRuns: 60 },
    );
  });

  it('weighs every token of a text that is predicted, and no other', () => {
    const table = taskTable('test', [
      { question: 'a b', answer: 'hello world' },
      { question: 'hello', answer: 'c' },
    ]);
    const { task } = buildTask(table, { ...options, template: '{question} d {answer}', labels: undefined, dev: table });
    expect(task.candidates).toBeUndefined();
    const read = (text: string): number => tokenizer.encode(text, { bos: true }).length;
    const [first, second] = rowsOf(task.train);
    expect(first.ids).toEqual([...tokenizer.encode('a b d hello world', { bos: true })]);
    expect(first.predicted).toEqual([read('a b d') - 1, read('a b d')]);
    expect(second.predicted[0]).toBe(read('hello d') - 1);
    expect(second.ids).toEqual([...tokenizer.encode('hello d c', { bos: true })]);
  });

  it('cuts the beginning of a long text off, BOS apart, and says so; drops what cannot be predicted', () => {
    const table = taskTable('test', [
      { read: 'a b c d e h l o r w', next: 'hello' },
      { read: 'a', next: '' },
      { read: 'a', next: 'b c d e h l o r w b c d' },
      { read: 'b', next: 'world' },
    ]);
    const built = buildTask(table, { ...options, template: '{read} {next}', labels: undefined, length: 8, dev: tableOf2() });
    expect(built.report.train).toMatchObject({ read: 4, kept: 2, truncated: 1, dropped: { 'nothing to predict': 1, 'too long': 1 } });
    const [long] = rowsOf(built.task.train);
    const whole = [...tokenizer.encode('a b c d e h l o r w hello', { bos: true })];
    expect(long.ids).toEqual([whole[0], ...whole.slice(whole.length - 7)]);
    expect(describeTask(built)).toContain('train: 2 of 4 examples, 1 truncated, 1 dropped (nothing to predict), 1 dropped (too long)');
  });

  it('divides by seed: the same one gives the same bytes, another one another part', () => {
    const table = tableOf(Array.from({ length: 40 }, (_, i) => `${'abcde'[i % 5]} ${'h'.repeat(1 + i / 5)}`));
    const hash = (seed: number): string => buildTask(table, { ...options, rng: createRng(seed), devShare: 0.25 }).task.hash;
    expect(hash(1)).toBe(hash(1));
    expect(hash(2)).not.toBe(hash(1));
    const { task, report } = buildTask(table, { ...options, devShare: 0.25 });
    expect([task.train.count, task.dev.count, report.shared]).toEqual([30, 10, 0]);
    expect(task.protocol).toMatchObject({ split: 'a drawn share of 0.25', template: options.template, labels, taskSha256: task.hash });
  });

  it('keeps as many as are wanted, and counts dev examples that are trained on', () => {
    const table = tableOf(['a', 'b', 'c', 'd', 'e']);
    const { task, report } = buildTask(table, { ...options, dev: table, limit: { train: 3, dev: 5 } });
    expect([task.train.count, task.dev.count, report.shared]).toEqual([3, 5, 3]);
    expect(report.dev.labels).toEqual({ good: 2, bad: 3 });
    expect(task.protocol['split']).toBe('own dev file');
  });

  it.each<[string, string, Partial<TaskOptions>]>([
    ['names no field', 'TASK_TEMPLATE', { template: 'It was great' }],
    ['does not end with a field', 'TASK_TEMPLATE', { template: '{label}: {sentence} indeed' }],
    ['a field that is not there', "no field 'text'; it has sentence, label", { template: '{text} a {label}' }],
    ['a label without a word', "{label} is 'bad', which has no word", { labels: { good: 'hello', worse: 'world' } }],
    ['a word of several tokens', "LABEL_WORD: label 'bad': the word 'hello world'", { labels: { good: 'hello', bad: 'hello world' } }],
    ['two labels with one word', "LABEL_WORD: labels 'good' and 'bad' have the same token", { labels: { good: 'hello', bad: 'hello' } }],
    ['one label', 'OPTIONS_INVALID', { labels: { good: 'hello' } }],
    ['a length', 'OPTIONS_INVALID', { length: 1 }],
    ['a share', 'OPTIONS_INVALID', { devShare: 1 }],
    ['a limit', 'OPTIONS_INVALID', { limit: { train: 0 } }],
    ['a share that leaves nothing', 'TASK_EMPTY', { devShare: 0.9 }],
    ['a length that nothing fits in', 'TASK_EMPTY', { template: '{label} {sentence}', labels: undefined, length: 2 }],
  ])('refuses %s: %s', (_what, message, changed) => {
    const table = tableOf(['hello world', 'hello hello']);
    expect(() => buildTask(table, { ...options, ...changed })).toThrow(message);
  });
});

/** Something to judge by. */
function tableOf2() {
  return taskTable('dev', [{ read: 'a', next: 'b' }]);
}

describe('textTask', () => {
  const [train, dev] = [corpusOf(['hello world a b c d e', 'a b c d e h l o'], { name: 'train' }), corpusOf(['c d e hello world b'])];

  it('predicts every next token of windows that meet', () => {
    const task = textTask(train, { dev, tokenizer, window: 4, rng: createRng(0) });
    const ids = train.documents.flatMap((text) => [...tokenizer.encode(text, { bos: true })]);
    expect([...task.train.tokens]).toEqual(ids.slice(0, ids.length - (ids.length % 4)));
    expect([...task.train.weights].every((w, i) => w === (i % 4 === 3 ? 0 : 1))).toBe(true);
    expect(task.dev.length).toBe(4);
    expect(textTask(train, { dev, tokenizer, window: 4, rng: createRng(0), limit: { train: 2 } }).train.count).toBe(2);
  });

  it('refuses to judge by what it trains on', () => {
    expect(() => textTask(train, { dev: train, tokenizer, window: 4, rng: createRng(0) })).toThrow(/TASK_SPLIT/);
  });
});

describe('files', () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'lowbit-task-'));
  });
  afterAll(() => rm(directory, { recursive: true }));

  const write = async (name: string, text: string | Uint8Array): Promise<string> => {
    const path = join(directory, name);
    await writeFile(path, text);
    return path;
  };

  it('reads columns by the header, or by the names that are given', async () => {
    const headed = await readTaskFile(await write('headed.tsv', 'sentence\tlabel\r\na "quoted" one\t1\r\n\r\nanother\t0\r\n'));
    const bare = await readTaskFile(await write('bare.tsv', 'a "quoted" one\t1\nanother\t0\n'), { columns: ['sentence', 'label'] });
    for (const { rows } of [headed, bare]) {
      expect(rows.map((row) => [row.field('sentence'), row.field('label')])).toEqual([
        ['a "quoted" one', '1'],
        ['another', '0'],
      ]);
    }
    expect(headed.rows.map(({ where }) => where)).toEqual(['headed.tsv:2', 'headed.tsv:4']);
    expect(headed.sha256).not.toBe(bare.sha256);
  });

  it('reads fields of objects: texts, numbers, booleans, fields within fields', async () => {
    const { rows } = await readTaskFile(
      await write('a.jsonl', '{"text": "x", "label": 1, "isOk": true, "a": {"b": "deep"}, "list": []}\n'),
    );
    expect(['text', 'label', 'isOk', 'a.b'].map((name) => rows[0].field(name))).toEqual(['x', '1', 'true', 'deep']);
    expect(() => rows[0].field('list')).toThrow(/TASK_FIELD: a.jsonl:1: field 'list' is no text/);
    expect(() => rows[0].field('toString')).toThrow(/TASK_FIELD: a.jsonl:1: no field 'toString'; it has text, label, isOk, a, list/);
  });

  it.each<[string, string, string | Uint8Array, RegExp]>([
    ['a line that is not JSON', 'a.jsonl', '{"a": 1}\n{"a"\n', /TASK_FILE: a.jsonl:2: is not JSON/],
    ['a line that is no object', 'a.jsonl', '[1]\n', /TASK_FILE: a.jsonl:1: is no JSON object/],
    ['a missing column', 'a.tsv', 'sentence\tlabel\nonly one\n', /TASK_FILE: a.tsv:2: has 1 columns in place of 2 \(sentence, label\)/],
    ['no examples', 'a.jsonl', '\n', /TASK_EMPTY: .*a.jsonl: has no example/],
    ['a header alone', 'a.tsv', 'sentence\tlabel\n', /TASK_EMPTY: .*below its header line/],
    ['another kind of file', 'a.csv', 'a,b\n', /TASK_FILE: .*\.jsonl, \.parquet and \.tsv/],
    ['bytes that are no text', 'a.jsonl', Uint8Array.of(0xff, 0xfe), /TASK_FILE: .*UTF-8/],
  ])('refuses %s', async (_what, name, text, message) => {
    await expect(readTaskFile(await write(name, text))).rejects.toThrow(message);
  });

  it('says when there is no file, and that columns are for .tsv', async () => {
    await expect(readTaskFile(join(directory, 'none.tsv'))).rejects.toThrow(/TASK_MISSING: .*no such file/);
    await expect(readTaskFile(await write('b.jsonl', '{}'), { columns: ['a'] })).rejects.toThrow(/TASK_FILE: .*named for \.tsv/);
  });

  it('a header that is taken for an example is explained', async () => {
    const { rows } = await readTaskFile(await write('c.tsv', 'fine film\tgood\nbad film\tbad\n'));
    expect(() => rows[0].field('sentence')).toThrow(
      /no field 'sentence'; it has fine film, good; if the file's first line is an example, name its columns/,
    );
  });
});

describe('sotu-era', () => {
  it('can be learned: a bag of words tells the centuries apart, far above the most frequent label', async () => {
    const { train, dev } = await sotuEraTables();
    const wordsOf = (text: string): Set<string> => new Set(text.toLowerCase().match(/[a-z]+/g));
    const counts = new Map<string, [number, number]>();
    const totals: [number, number] = [0, 0];
    for (const row of train.rows) {
      const era = row.field('era') === 'new' ? 1 : 0;
      totals[era]++;
      for (const word of wordsOf(row.field('sentence'))) {
        const count = counts.get(word) ?? [0, 0];
        count[era]++;
        counts.set(word, count);
      }
    }
    // Naive Bayes over the words that occur, with one count added to each.
    const isNew = (text: string): boolean =>
      [...wordsOf(text)].reduce(
        (sum, word) => {
          const [old, recent] = counts.get(word) ?? [0, 0];
          return sum + Math.log((recent + 1) / (totals[1] + 2)) - Math.log((old + 1) / (totals[0] + 2));
        },
        Math.log(totals[1] / totals[0]),
      ) > 0;
    const truth = dev.rows.map((row) => row.field('era') === 'new');
    const right = dev.rows.filter((row, i) => isNew(row.field('sentence')) === truth[i]).length / dev.rows.length;
    const majority = Math.max(truth.filter(Boolean).length, truth.filter((one) => !one).length) / truth.length;
    expect(dev.rows.length).toBe(547);
    expect(majority).toBeLessThan(0.53); // 0.527 measured
    expect(right).toBeGreaterThan(0.82); // 0.839 measured
    const trained = new Set(train.rows.map((row) => row.field('sentence')));
    expect(dev.rows.filter((row) => trained.has(row.field('sentence'))).length).toBeLessThan(10);
  });
});
