// GLUE: sentences and pairs of sentences with a label, as questions (arXiv 1804.07461).
import type { DataRecord } from '@lowbit/data';
import type { ChoiceMetric } from './metrics.js';
import { strip } from './python-text.js';
import { type ChoiceTask, choose, labelOf, textOf } from './task.js';

type Prompt = (field: (name: string) => string) => string;

const glue = (name: string, labels: readonly string[], metrics: readonly ChoiceMetric[], prompt: Prompt): ChoiceTask => ({
  name,
  version: 1,
  split: 'validation',
  metrics,
  question: (record: DataRecord) =>
    choose(
      prompt((field) => textOf(record, field)),
      labels,
      labelOf(record, 'label', labels.length),
    ),
});

const noYes = ['no', 'yes'];

export const sst2 = glue('sst2', ['negative', 'positive'], ['acc'], (field) => {
  return `${field('sentence')}\nQuestion: Is this sentence positive or negative?\nAnswer:`;
});

export const cola = glue('cola', noYes, ['mcc'], (field) => {
  return `${field('sentence')}\nQuestion: Does this sentence make sense?\nAnswer:`;
});

export const rte = glue('rte', ['True', 'False'], ['acc'], (field) => {
  return `${field('sentence1')}\nQuestion: ${field('sentence2')} True or False?\nAnswer:`;
});

export const wnli = glue('wnli', ['False', 'True'], ['acc'], (field) => {
  return `${field('sentence1')}\nQuestion: ${field('sentence2')} True or False?\nAnswer:`;
});

export const mrpc = glue('mrpc', noYes, ['acc', 'f1'], (field) => {
  return `Sentence 1: ${field('sentence1')}\nSentence 2: ${field('sentence2')}\nQuestion: Do both sentences mean the same thing?\nAnswer:`;
});

export const qqp = glue('qqp', noYes, ['acc', 'f1'], (field) => {
  return `Question 1: ${field('question1')}\nQuestion 2: ${field('question2')}\nQuestion: Do both questions ask the same thing?\nAnswer:`;
});

export const qnli = glue('qnli', ['yes', 'no'], ['acc'], (field) => {
  return `${field('question')}\n${field('sentence')}\nQuestion: Does this response answer the question?\nAnswer:`;
});

const entailed: Prompt = (field) => {
  const hypothesis = strip(field('hypothesis'));
  const sentence = hypothesis.endsWith('.') ? hypothesis : `${hypothesis}.`;
  return `${field('premise')}\nQuestion: ${sentence} True, False or Neither?\nAnswer:`;
};

/** Two halves of what is judged, of one kind of text with what is trained on and of others, with one training split. */
const inference = (name: string, split: string): ChoiceTask => ({
  ...glue(name, ['True', 'Neither', 'False'], ['acc'], entailed),
  onHub: { folder: 'mnli', split },
});

export const mnli = inference('mnli', 'validation_matched');
export const mnliMismatch = inference('mnli_mismatch', 'validation_mismatched');
