// ARC, easy and challenge: science questions of schools with three to five answers (arXiv 1803.05457).
import { type ChoiceTask, choose, placeOf, textOf, textsOf } from './task.js';

const arc = (name: string, folder: string): ChoiceTask => ({
  name,
  version: 1,
  split: 'test',
  onHub: { folder, split: 'test' },
  metrics: ['acc', 'acc_norm'],
  question(record) {
    const gold = placeOf(record, 'answerKey', textOf(record, 'answerKey'), textsOf(record, 'choices.label'));
    return choose(`Question: ${textOf(record, 'question')}\nAnswer:`, textsOf(record, 'choices.text'), gold);
  },
});

export const arcEasy = arc('arc_easy', 'ARC-Easy');
export const arcChallenge = arc('arc_challenge', 'ARC-Challenge');
