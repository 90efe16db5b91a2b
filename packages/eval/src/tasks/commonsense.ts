// Tasks about everyday knowledge: PIQA (arXiv 1911.11641), WinoGrande (1907.10641), OpenBookQA (1809.02789), SciQ (1707.06209), COPA and
// BoolQ as SuperGLUE has them (1905.00537, 1905.10044).
import { LowbitError } from '@lowbit/core';
import { strip, stripStart } from './python-text.js';
import { type ChoiceTask, choose, labelOf, placeOf, textOf, textsOf } from './task.js';

export const piqa: ChoiceTask = {
  name: 'piqa',
  version: 1,
  split: 'validation',
  metrics: ['acc', 'acc_norm'],
  question(record) {
    const solutions = [textOf(record, 'sol1'), textOf(record, 'sol2')];
    return choose(`Question: ${textOf(record, 'goal')}\nAnswer:`, solutions, labelOf(record, 'label', 2));
  },
};

/** The rest of the sentence is scored behind each way to fill its gap. */
export const winogrande: ChoiceTask = {
  name: 'winogrande',
  version: 1,
  split: 'validation',
  onHub: { folder: 'winogrande_xl', split: 'validation' },
  metrics: ['acc'],
  question(record) {
    const sentence = textOf(record, 'sentence');
    const gap = sentence.indexOf('_');
    if (gap < 0)
      throw new LowbitError('TASK_FIELD', `${record.where}: field 'sentence' has no '_' for the gap; is this the task's dataset?`);
    const prompts = ['option1', 'option2'].map((option) => sentence.slice(0, gap) + textOf(record, option));
    const ending = strip(sentence.slice(gap + 1));
    return { prompts, endings: [ending, ending], gold: placeOf(record, 'answer', textOf(record, 'answer'), ['1', '2']) };
  },
};

export const boolq: ChoiceTask = {
  name: 'boolq',
  version: 1,
  split: 'validation',
  metrics: ['acc'],
  question(record) {
    const prompt = `${textOf(record, 'passage')}\nQuestion: ${textOf(record, 'question')}?\nAnswer:`;
    return choose(prompt, ['no', 'yes'], labelOf(record, 'label', 2));
  },
};

export const openbookqa: ChoiceTask = {
  name: 'openbookqa',
  version: 1,
  split: 'test',
  metrics: ['acc', 'acc_norm'],
  question(record) {
    const gold = placeOf(record, 'answerKey', stripStart(textOf(record, 'answerKey')), textsOf(record, 'choices.label'));
    return choose(textOf(record, 'question_stem'), textsOf(record, 'choices.text'), gold);
  },
};

export const sciq: ChoiceTask = {
  name: 'sciq',
  version: 1,
  split: 'test',
  metrics: ['acc', 'acc_norm'],
  question(record) {
    const choices = ['distractor1', 'distractor2', 'distractor3', 'correct_answer'].map((field) => textOf(record, field));
    return choose(`${stripStart(textOf(record, 'support'))}\nQuestion: ${textOf(record, 'question')}\nAnswer:`, choices, 3);
  },
};

const connectors: Readonly<Record<string, string>> = { cause: 'because', effect: 'therefore' };

/** The choices have a space of their own before them. */
export const copa: ChoiceTask = {
  name: 'copa',
  version: 1,
  split: 'validation',
  metrics: ['acc'],
  question(record) {
    const kinds = Object.keys(connectors);
    const connector = connectors[kinds[placeOf(record, 'question', textOf(record, 'question'), kinds)]];
    const choices = ['choice1', 'choice2'].map((field) => {
      const [first = '', ...others] = textOf(record, field);
      return ` ${first.toLowerCase()}${others.join('')}`;
    });
    const premise = [...strip(textOf(record, 'premise'))].slice(0, -1).join('');
    return choose(`${premise} ${connector}`, choices, labelOf(record, 'label', 2));
  },
};
