// A small real task: was a sentence said before 1900 or since? Sentences of the State of the Union speeches, labelled by their year.
import { createRng } from '@lowbit/core';
import { speechesOf } from './sotu.js';
import { type TaskTable, taskTable } from './task-table.js';

/** Sentences that a speech gives at most, so that long ones do not stand for a whole century. */
const SENTENCES = 24;

/** The first year that is 'new'. */
const NEW_SINCE = 1900;

export const sotuEra = {
  template: '{sentence} This is {era}',
  labels: { old: 'old', new: 'new' },
} as const;

/**
 * Fields `sentence` and `era`, 'old' or 'new': about half of each. Up to 24 sentences a speech, of 60 to 240 characters and without a
 * year in them. Sentences to judge by are of other speeches than those to train on, the same as in `sotuCorpus`. Public domain.
 */
export async function sotuEraTables(): Promise<{ readonly train: TaskTable; readonly dev: TaskTable }> {
  const tableOf = async (split: 'train' | 'held-out'): Promise<TaskTable> => {
    const speeches = await speechesOf(split);
    const records = speeches.flatMap(({ year, name, text }) => {
      const sentences = text.split(/(?<=[.!?])\s+(?=[A-Z])/).filter((one) => one.length >= 60 && one.length <= 240 && !/\d/.test(one));
      const order = createRng(0).at('sotu-era', year, name).permutation(sentences.length).subarray(0, SENTENCES);
      return Array.from(order, (i) => ({ sentence: sentences[i].replace(/\s+/g, ' '), era: year < NEW_SINCE ? 'old' : 'new' }));
    });
    return taskTable(`sotu-era ${split}`, records);
  };
  return { train: await tableOf('train'), dev: await tableOf('held-out') };
}
