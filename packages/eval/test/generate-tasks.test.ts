// Generation tasks: prompts, answers and their judgement as lm-evaluation-harness has them, and programs that are run only when allowed.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { createReferenceBackend } from '@lowbit/backend-reference';
import { LowbitError, type Model, throwIfAborted } from '@lowbit/core';
import { type DataRecord, type RecordTable, readRecords, type Tokenizer } from '@lowbit/data';
import { generate } from '@lowbit/models';
import { createToyModel } from '@lowbit/testkit';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cutAtStops, type GenerateAnswers, writeAnswers } from '../src/generate-tasks/answers.js';
import { comparable, lastNumber, markedNumber } from '../src/generate-tasks/gsm8k.js';
import {
  type CodeSandbox,
  type GenerationExamples,
  generationEvaluator,
  generationTasks,
  type JudgedAnswer,
  openCodeSandbox,
} from '../src/index.js';

const backend = createReferenceBackend();
const [gsm8k, humaneval] = ['gsm8k', 'humaneval'].map((name) => generationTasks.get(name)) as [
  NonNullable<ReturnType<typeof generationTasks.get>>,
  NonNullable<ReturnType<typeof generationTasks.get>>,
];

/** A token for each character, and two special ones. */
const [BOS, EOS] = [0x110000, 0x110001];
const characters: Tokenizer = {
  vocabularySize: EOS + 1,
  bosToken: BOS,
  eosToken: EOS,
  addsBos: true,
  encode: (text, { bos = false } = {}) => Int32Array.from([...(bos ? [BOS] : []), ...[...text].map((one) => one.codePointAt(0) as number)]),
  decode: (ids) =>
    Array.from(ids)
      .filter((id) => id < BOS)
      .map((id) => String.fromCodePoint(id))
      .join(''),
};

const modelOf = (contextLength: number) => ({ config: { contextLength } }) as Model;

/** Writes given answers, one token after the other, and EOS behind them; keeps what it was asked. */
function scripted(answers: readonly string[], asked: Int32Array[] = []): GenerateAnswers {
  return async (_model, _backend, { prompts, maxTokens, isDone, onTokens, stopToken, signal }) => {
    asked.push(...prompts);
    return prompts.map((_, sequence) => {
      const written: number[] = [];
      for (const token of [...characters.encode(answers[sequence]), EOS]) {
        throwIfAborted(signal);
        written.push(token);
        onTokens([{ sequence, token }]);
        if (written.length === maxTokens || token === stopToken || isDone(written, sequence)) break;
      }
      return Int32Array.from(written);
    });
  };
}

const tableOf = (name: string, values: readonly Record<string, unknown>[]): RecordTable => ({
  name,
  sha256: 'digest',
  records: values.map((value, i): DataRecord => ({ where: `${name}:${i + 1}`, value })),
});

const problems = tableOf('gsm8k.test.jsonl', [
  { question: 'Two and two?', answer: 'It is 2+2=<<2+2=4>>4.\n#### 4' },
  { question: 'A house?', answer: '80,000-10,000=70,000\n#### 70,000' },
  { question: 'Below zero?', answer: 'So it is.\n#### -3' },
]);

describe('answers', () => {
  it('are cut at each stop in turn, as the harness does', () => {
    expect(cutAtStops('a Question: b</s> c', ['Question:', '</s>'])).toBe('a ');
    expect(cutAtStops('x</s> Question:', ['Question:', '</s>'])).toBe('x');
    // Cut at the first one, the second is no longer there.
    expect(cutAtStops('ab', ['b', 'ab'])).toBe('a');
    fc.assert(
      fc.property(fc.string(), (text) => {
        const cut = cutAtStops(text, ['a', 'bc']);
        expect(text.startsWith(cut) && !cut.includes('a') && !cut.includes('bc')).toBe(true);
      }),
    );
  });

  it('end at a stop, at EOS or with the last token, and say how far they are', async () => {
    const asked: Int32Array[] = [];
    const steps: number[][] = [];
    const answers = ['one Question: two', 'short', 'a very long answer'];
    const written = await writeAnswers(modelOf(100), ['x', 'yy', 'zzz'], {
      ...{ backend, tokenizer: characters, generate: scripted(answers, asked), maxTokens: 16, stops: ['Question:'], together: 2 },
      progress: (done, total) => steps.push([done, total]),
    });
    expect(written).toEqual({ texts: ['one ', 'short', 'a very long answ'], shortened: 0 });
    expect(asked.map((ids) => [...ids])).toEqual(['x', 'yy', 'zzz'].map((text) => [BOS, ...characters.encode(text)]));
    expect(steps).toEqual([1, 2, 3].map((done) => [done, 3]));
  });

  it('leave out the beginning of a prompt that is too long, and refuse answers that are', async () => {
    const asked: Int32Array[] = [];
    const options = { backend, tokenizer: characters, generate: scripted(['a', 'b'], asked), stops: [], together: 1 };
    const { shortened } = await writeAnswers(modelOf(10), ['0123456789', '01'], { ...options, maxTokens: 4 });
    expect(shortened).toBe(1);
    expect(asked.map((ids) => characters.decode(ids))).toEqual(['456789', '01']);
    await expect(writeAnswers(modelOf(10), ['x'], { ...options, maxTokens: 10 })).rejects.toMatchObject({ code: 'CONTEXT_LENGTH' });
  });

  it('keep the space that a decoder drops at the beginning of a text', async () => {
    const dropping: Tokenizer = { ...characters, decode: (ids) => characters.decode(ids).replace(/^ /, '') };
    const options = { backend, tokenizer: dropping, generate: scripted([' return 1']), maxTokens: 20, stops: [], together: 1 };
    expect((await writeAnswers(modelOf(100), ['def f():\n'], options)).texts).toEqual([' return 1']);
  });

  it('pass over tokens that a model has and its tokenizer has not', async () => {
    const letters: Tokenizer = {
      ...{ ...characters, vocabularySize: 128, eosToken: undefined },
      decode(ids) {
        if (Array.from(ids).some((id) => id >= 128)) throw new LowbitError('TOKEN_RANGE', 'outside');
        return characters.decode(ids);
      },
    };
    const options = { backend, tokenizer: letters, generate: scripted(['a\u{100}b', '\u{100}']), maxTokens: 4, stops: ['.'], together: 1 };
    expect((await writeAnswers(modelOf(100), ['x', 'y'], options)).texts).toEqual(['ab', '']);
  });

  it('are those of a model, by the generator of @lowbit/models', async () => {
    const model = createToyModel();
    const { vocabularySize } = model.config;
    const letters: Tokenizer = {
      ...{ vocabularySize, bosToken: 0, eosToken: undefined, addsBos: true },
      encode: (text, { bos = false } = {}) => Int32Array.from([...(bos ? [0] : []), ...[...text].map((one) => one.charCodeAt(0) - 96)]),
      decode: (ids) => Array.from(ids, (id) => String.fromCharCode(id + 96)).join(''),
    };
    const prompts = ['abc', 'b', 'cabca'];
    const alone = await generate(model, backend, { prompts: prompts.map((text) => letters.encode(text, { bos: true })), maxTokens: 4 });
    const { texts } = await writeAnswers(model, prompts, {
      ...{ backend, tokenizer: letters, generate, maxTokens: 4, stops: [], together: 2 },
    });
    expect(texts).toEqual(alone.map((ids) => letters.decode(ids)));
  });
});

describe('gsm8k', () => {
  it.each([
    ['so 4.\n#### 4', '4', '4'],
    ['#### -1,000.50 and #### 7', '-1,000.50', '7'],
    ['the answer is $1,234.', '[invalid]', '$1,234.'],
    ['####4', '[invalid]', '4'],
    ['nothing', '[invalid]', '[invalid]'],
    ['7 then -12', '[invalid]', '-12'],
    // One character alone is a number only if it is a digit; a full stop is none, two are.
    ['5 apples .', '[invalid]', '5'],
    ['5 apples ...', '[invalid]', '...'],
    ['a 3-4', '[invalid]', '-4'],
  ])('%j: strict %j, flexible %j', (answer, strict, flexible) => {
    expect(markedNumber(answer)).toBe(strict);
    expect(lastNumber(answer)).toBe(flexible);
  });

  it.each([
    ['It is so.\n#### 1,234', '1234'],
    ['$1,234.', '1234'],
    ['#### 1 #### 2', '2'],
    ['3.50', '3.50'],
    ['[invalid]', '[invalid]'],
    ['5.\n', '5\n'],
  ])('%j compares as %j', (text, expected) => expect(comparable(text)).toBe(expected));

  it('scores both ways of reading an answer, behind solved examples', async () => {
    const from = tableOf(
      'gsm8k.train.jsonl',
      Array.from({ length: 7 }, (_, i) => ({ question: `q${i}`, answer: `#### ${i}` })),
    );
    const judged: JudgedAnswer[] = [];
    const asked: Int32Array[] = [];
    const answers = ['#### 4', 'it is $70,000.', '#### 3\nQuestion: -3'];
    const evaluator = generationEvaluator({
      ...{ task: gsm8k, records: problems, tokenizer: characters, generate: scripted(answers, asked), shots: { count: 2, from } },
      onAnswer: (answer) => judged.push(answer),
    });
    const [strict, flexible] = await evaluator.evaluate(modelOf(1000), { backend });
    expect(strict).toMatchObject({ evaluator: 'gsm8k/strict-match', value: 1 / 3, samples: 3, higherIsBetter: true });
    expect(flexible).toMatchObject({ evaluator: 'gsm8k/flexible-extract', value: 2 / 3 });
    // The deviation of the sample 1, 0, 0 over √3.
    expect(strict.stderr).toBeCloseTo(Math.sqrt((4 / 9 + 1 / 9 + 1 / 9) / 2) / Math.sqrt(3), 12);
    expect(strict.protocol).toMatchObject({
      ...{ task: 'gsm8k', split: 'test', examples: 3, maxTokens: 256, decoding: 'greedy', shortenedPrompts: 0, together: 8 },
      ...{ bos: 'document', contextLength: 1000, dtype: 'float32', backend: backend.name },
      shots: { count: 2, file: 'gsm8k.train.jsonl', seed: 1234 },
    });
    expect(characters.decode(asked[0])).toMatch(/^(Question: q\d\nAnswer: #### \d\n\n){2}Question: Two and two\?\nAnswer:$/);
    expect(judged.map(({ values, reason }) => [values['strict-match'], reason])).toEqual([
      [1, 'strict 4, flexible 4, right 4'],
      [0, 'strict [invalid], flexible $70,000., right 70000'],
      [0, 'strict 3, flexible 3, right -3'],
    ]);
  });

  it('answers with fewer tokens, and of fewer questions, where that is asked for', async () => {
    const evaluator = generationEvaluator({
      ...{ task: gsm8k, records: problems, tokenizer: characters, generate: scripted(['#### 42']), limit: 1, maxTokens: 6 },
    });
    const [strict] = await evaluator.evaluate(modelOf(1000), { backend });
    expect(strict).toMatchObject({
      value: 1,
      samples: 1,
      stderr: Number.NaN,
      protocol: { maxTokens: 6, examples: 1, shots: { count: 0 } },
    });
  });

  it('refuses records of another dataset', async () => {
    const records = tableOf('other.jsonl', [{ text: 'x' }]);
    const evaluator = generationEvaluator({ task: gsm8k, records, tokenizer: characters, generate: scripted(['']) });
    await expect(evaluator.evaluate(modelOf(1000), { backend })).rejects.toMatchObject({ code: 'TASK_FIELD' });
  });
});

const sandbox = await openCodeSandbox({ seconds: 60, memoryMiB: 256, diskMiB: 4, outputKiB: 64 }).catch((error: unknown) => {
  if (error instanceof LowbitError) return error;
  throw error;
});
const why = sandbox instanceof LowbitError ? ` (skipped: ${sandbox.message})` : '';

// Many programs in one test, of which each has a minute to start.
const patient = { timeout: 600_000 };

describe('humaneval', patient, () => {
  const addition = {
    task_id: 'Own/0',
    prompt: 'def add(a, b):\n    """ Adds. """\n',
    entry_point: 'add',
    canonical_solution: '    return a + b\n',
    test: 'def check(candidate):\n    assert candidate(1, 2) == 3\n    assert candidate(-1, 1) == 0\n',
  };

  it('runs nothing unless there is a sandbox', () => {
    const examples: GenerationExamples = {
      ...{ task: humaneval, records: tableOf('humaneval.test.jsonl', [addition]), tokenizer: characters, generate: scripted(['']) },
    };
    expect(() => generationEvaluator(examples)).toThrow(/^CODE_EXECUTION: humaneval: runs programs/);
  });

  it.skipIf(why !== '')(`judges answers by running their tests, each with a reason${why}`, async () => {
    const answers: [answer: string, value: number, reason: RegExp][] = [
      ['    return a + b\ndef another(): pass', 1, /^passed$/],
      ['    return a - b', 0, /^failed: AssertionError/],
      ['    return a +', 0, /^failed: SyntaxError/],
      ['', 0, /^failed: AssertionError/],
      ['    while True: pass', 0, /^timeout: ran longer than 1 s$/],
      ['    return bytearray(10**10)', 0, /^memory: needed more than 256 MiB$/],
      ['    import socket; socket.create_connection(("127.0.0.1", 80))', 0, /^failed: PermissionError/],
      ['    open("/tmp/written", "w")', 0, /^failed: FileNotFoundError/],
      ['    import os; return os.environ["PATH"]', 0, /^failed: KeyError/],
      ['    import os; os.fork()', 0, /^failed: PermissionError/],
      ['    import os; os._exit(0)', 0, /^exited: ended with status 0 before its tests did$/],
    ];
    // One second for the program that takes all there is; on a busy machine the others may need longer.
    const hasty = await openCodeSandbox({ seconds: 1, memoryMiB: 256, diskMiB: 4, outputKiB: 64 });
    const { protocol, run } = sandbox as CodeSandbox;
    const both: CodeSandbox = { protocol, run: (program, signal) => (program.includes('while True') ? hasty.run : run)(program, signal) };
    const judged: JudgedAnswer[] = [];
    const evaluator = generationEvaluator({
      task: humaneval,
      records: tableOf(
        'humaneval.test.jsonl',
        answers.map((_, i) => ({ ...addition, task_id: `Own/${i}` })),
      ),
      ...{ tokenizer: characters, generate: scripted(answers.map(([answer]) => answer)), sandbox: both },
      onAnswer: (answer) => judged.push(answer),
    });
    const [score] = await evaluator.evaluate(modelOf(2000), { backend });
    expect(score).toMatchObject({ evaluator: 'humaneval/pass@1', value: 1 / 11, samples: 11, protocol: { sandbox: { seconds: 60 } } });
    expect(judged.map(({ values }) => values['pass@1'])).toEqual(answers.map(([, value]) => value));
    judged.forEach(({ reason }, i) => {
      expect(reason).toMatch(answers[i][2]);
    });
    expect(judged[0].answer).toBe('    return a + b');
  });

  it.skipIf(why !== '')(`is cancelled between programs${why}`, async () => {
    const cancel = new AbortController();
    const evaluator = generationEvaluator({
      task: humaneval,
      records: tableOf('humaneval.test.jsonl', [addition, addition]),
      ...{ tokenizer: characters, generate: scripted(['', '']), sandbox: sandbox as CodeSandbox },
      onAnswer: () => cancel.abort(),
    });
    await expect(evaluator.evaluate(modelOf(2000), { backend, signal: cancel.signal })).rejects.toMatchObject({ code: 'ABORTED' });
  });
});

const data = process.env.LOWBIT_TEST_DATA;

describe.skipIf(data === undefined)(`with the datasets${data === undefined ? ' (LOWBIT_TEST_DATA is not set)' : ''}`, () => {
  it('every right answer of GSM8K counts as right, in both ways', async () => {
    const { records } = await readRecords(join(data as string, 'tasks', 'gsm8k-test.jsonl'));
    const grades = await Promise.all(records.map((record) => gsm8k.grade(record, gsm8k.solution(record), {})));
    expect(grades.filter(({ values }) => values['strict-match'] === 1)).toHaveLength(1319);
    expect(grades.filter(({ values }) => values['flexible-extract'] === 1)).toHaveLength(1319);
  });

  it.skipIf(why !== '')(`every tenth right answer of HumanEval passes, and none without its body${why}`, patient, async () => {
    const lines = gunzipSync(await readFile(join(data as string, 'tasks', 'HumanEval.jsonl.gz')))
      .toString()
      .trim()
      .split('\n');
    expect(lines).toHaveLength(164);
    for (const line of lines.filter((_, i) => i % 10 === 0)) {
      const record: DataRecord = { where: 'HumanEval', value: JSON.parse(line) as Record<string, unknown> };
      const tools = { sandbox: sandbox as CodeSandbox };
      expect((await humaneval.grade(record, humaneval.solution(record), tools)).reason).toBe('passed');
      expect((await humaneval.grade(record, '    pass\n', tools)).reason).toMatch(/^failed: /);
    }
  });
});
