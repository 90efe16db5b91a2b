// What each task asks: texts to the character, as lm-evaluation-harness has them.
import { describe, expect, it } from 'vitest';
import { choiceTasks } from '../src/index.js';

type Value = Readonly<Record<string, unknown>>;

const ask = (name: string, value: Value) => choiceTasks.get(name)!.question({ where: 'x:1', value });
const same = (prompt: string, endings: readonly string[], gold: number) => ({ prompts: endings.map(() => prompt), endings, gold });
const texts = (...labels: string[]) => ({ text: ['m', 'n', 'o'], label: labels });

describe('tasks', () => {
  it.each<[string, Value, unknown]>([
    ['arc_easy', { question: 'Q?', choices: texts('A', 'B', 'C'), answerKey: 'C' }, same('Question: Q?\nAnswer:', ['m', 'n', 'o'], 2)],
    ['arc_challenge', { question: 'Q?', choices: texts('1', '2', '3'), answerKey: '1' }, same('Question: Q?\nAnswer:', ['m', 'n', 'o'], 0)],
    ['piqa', { goal: 'G', sol1: 's', sol2: 't', label: 1 }, same('Question: G\nAnswer:', ['s', 't'], 1)],
    ['boolq', { passage: 'P.', question: 'is it', label: true }, same('P.\nQuestion: is it?\nAnswer:', ['no', 'yes'], 1)],
    ['openbookqa', { question_stem: 'S', choices: texts('A', 'B', 'C'), answerKey: ' B' }, same('S', ['m', 'n', 'o'], 1)],
    [
      'sciq',
      { support: ' S', question: 'Q', distractor1: 'a', distractor2: 'b', distractor3: 'c', correct_answer: 'd' },
      same('S\nQuestion: Q\nAnswer:', ['a', 'b', 'c', 'd'], 3),
    ],
    [
      'copa',
      { premise: ' It rained. ', choice1: 'We left.', choice2: 'Ärger', question: 'effect', label: 0 },
      same('It rained therefore', [' we left.', ' ärger'], 0),
    ],
    [
      'copa',
      { premise: 'It rained.', choice1: 'X', choice2: 'Y', question: 'cause', label: 1 },
      same('It rained because', [' x', ' y'], 1),
    ],
    [
      'winogrande',
      { sentence: 'Tom saw _ run. ', option1: 'Ann', option2: 'Ben', answer: '2' },
      { prompts: ['Tom saw Ann', 'Tom saw Ben'], endings: ['run.', 'run.'], gold: 1 },
    ],
    ['lambada_openai', { text: 'a  b c' }, same('a  b', [' c'], 0)],
    ['lambada_standard', { text: 'word' }, same('', [' word'], 0)],
    [
      'sst2',
      { sentence: 'fine ', label: 1 },
      same('fine \nQuestion: Is this sentence positive or negative?\nAnswer:', ['negative', 'positive'], 1),
    ],
    ['cola', { sentence: 'S', label: 0 }, same('S\nQuestion: Does this sentence make sense?\nAnswer:', ['no', 'yes'], 0)],
    ['rte', { sentence1: 'S', sentence2: 'T', label: 0 }, same('S\nQuestion: T True or False?\nAnswer:', ['True', 'False'], 0)],
    ['wnli', { sentence1: 'S', sentence2: 'T', label: 0 }, same('S\nQuestion: T True or False?\nAnswer:', ['False', 'True'], 0)],
    [
      'mrpc',
      { sentence1: 'S', sentence2: 'T', label: 0 },
      same('Sentence 1: S\nSentence 2: T\nQuestion: Do both sentences mean the same thing?\nAnswer:', ['no', 'yes'], 0),
    ],
    [
      'qqp',
      { question1: 'S', question2: 'T', label: 0 },
      same('Question 1: S\nQuestion 2: T\nQuestion: Do both questions ask the same thing?\nAnswer:', ['no', 'yes'], 0),
    ],
    [
      'qnli',
      { question: 'S', sentence: 'T', label: 1 },
      same('S\nT\nQuestion: Does this response answer the question?\nAnswer:', ['yes', 'no'], 1),
    ],
    [
      'mnli',
      { premise: 'S', hypothesis: ' T ', label: 2 },
      same('S\nQuestion: T. True, False or Neither?\nAnswer:', ['True', 'Neither', 'False'], 2),
    ],
    [
      'mnli_mismatch',
      { premise: 'S', hypothesis: 'T.', label: 1 },
      same('S\nQuestion: T. True, False or Neither?\nAnswer:', ['True', 'Neither', 'False'], 1),
    ],
  ])('%s', (name, value, question) => {
    expect(ask(name, value)).toEqual(question);
  });

  it('hellaswag: without what is in brackets, double spaces made single once', () => {
    const value = {
      activity_label: 'Cooking',
      ctx_a: 'A man. [title] He [header] cooks.',
      ctx_b: 'the MAN',
      endings: [' eats [substeps]  it.  ', 'b', 'c', 'd'],
      label: '3',
    };
    const query = 'Cooking: A man.. He cooks. The man';
    const endings = ['eats  it.', 'b', 'c', 'd'];
    expect(ask('hellaswag', value)).toEqual(same(query, endings, 3));
    const document = choiceTasks.get('hellaswag')!.document!({ where: 'x:1', value });
    expect(document).toEqual({ ...value, query, choices: endings, gold: 3 });
  });

  it.each<[string, Value]>([
    ['arc_easy', { question: 'Q?', choices: texts('A', 'B', 'C'), answerKey: 'D' }],
    ['arc_easy', { question: 'Q?', choices: ['m'], answerKey: 'A' }],
    ['piqa', { goal: 'G', sol1: 's', sol2: 't', label: -1 }],
    ['piqa', { goal: 'G', sol1: 's', sol2: 't', label: 2 }],
    ['piqa', { sol1: 's', sol2: 't', label: 0 }],
    ['hellaswag', { activity_label: 'a', ctx_a: 'b', ctx_b: 'c', endings: ['d'], label: '' }],
    ['winogrande', { sentence: 'no gap', option1: 'a', option2: 'b', answer: '1' }],
    ['winogrande', { sentence: 'a _', option1: 'a', option2: 'b', answer: '' }],
    ['lambada_openai', { text: 1 }],
  ])('TASK_FIELD: %s of %j', (name, value) => {
    const error = expect.objectContaining({ code: 'TASK_FIELD', message: expect.stringContaining('x:1') as string });
    expect(() => ask(name, value)).toThrow(error as unknown as Error);
  });
});
