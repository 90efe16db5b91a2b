// GSM8K: word problems of school mathematics, whose answers end with a number (arXiv 2110.14168).
import { textOf } from '../tasks/task.js';
import type { GenerationTask } from './task.js';

/** Where the dataset puts the number: '#### 72'. */
const MARKED = /#### (-?[0-9.,]+)/;
const NUMBERS = /(-?[$0-9.,]{2,})|(-?[0-9]+)/g;
/** What is compared in place of a number that is not there. */
const NOTHING = '[invalid]';

/** Exact match of the number behind '####' in the answer (strict-match), and of the last number anywhere in it (flexible-extract). */
export const gsm8k: GenerationTask = {
  name: 'gsm8k',
  version: 1,
  split: 'test',
  shots: 5,
  maxTokens: 256,
  stops: ['Question:', '</s>', '<|im_end|>'],
  metrics: ['strict-match', 'flexible-extract'],
  runsCode: false,
  prompt: (record) => `Question: ${textOf(record, 'question')}\nAnswer:`,
  solution: (record) => textOf(record, 'answer'),
  async grade(record, answer) {
    const right = comparable(textOf(record, 'answer'));
    const [strict, flexible] = [markedNumber(answer), lastNumber(answer)];
    const values = { 'strict-match': Number(comparable(strict) === right), 'flexible-extract': Number(comparable(flexible) === right) };
    return { values, reason: `strict ${strict}, flexible ${flexible}, right ${right}` };
  },
};

export function markedNumber(answer: string): string {
  return MARKED.exec(answer)?.[1] ?? NOTHING;
}

export function lastNumber(answer: string): string {
  const last = [...answer.matchAll(NUMBERS)].at(-1);
  return last?.[1] ?? last?.[2] ?? NOTHING;
}

/** A number without commas, dollars, all before its mark, and a full stop behind it. */
export function comparable(text: string): string {
  return text
    .replace(/,/g, '')
    .replace(/\$/g, '')
    .replace(/.*#### /s, '')
    .replace(/\.(?=\n?$)/, '')
    .toLowerCase();
}
