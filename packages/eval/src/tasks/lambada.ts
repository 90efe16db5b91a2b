// LAMBADA: the last word of a passage, right when it is what the model would write (arXiv 1606.06031).
import type { ChoiceTask } from './task.js';
import { choose, textOf } from './task.js';

const lambada = (name: string): ChoiceTask => ({
  name,
  version: 1,
  split: 'test',
  metrics: ['perplexity', 'acc'],
  delimiter: '',
  question(record) {
    const words = textOf(record, 'text').split(' ');
    return choose(words.slice(0, -1).join(' '), [` ${words[words.length - 1]}`], 0);
  },
});

export const lambadaOpenai = lambada('lambada_openai');
export const lambadaStandard = lambada('lambada_standard');
