// Solved examples before a question: drawn as EleutherAI's lm-evaluation-harness draws them.
import { LowbitError } from '@lowbit/core';
import type { DataRecord, RecordTable } from '@lowbit/data';
import { pythonRandom } from './python-random.js';
import type { ChoiceTask, Question } from './task.js';

export interface Shots {
  readonly count: number;
  /** Where they are drawn from. */
  readonly from: RecordTable;
}

/** The harness's own. */
export const SHOTS_SEED = 1234;
const BETWEEN = '\n\n';

/** Solved examples before each record, one after the other from one generator: they depend on the order of the records. */
export function shotTexts(task: Pick<ChoiceTask, 'split' | 'question'>, records: readonly DataRecord[], { count, from }: Shots): string[] {
  // Of tasks without a test split the harness draws one more and leaves out the question itself.
  const isExcluding = task.split !== 'test';
  const drawn = isExcluding ? count + 1 : count;
  if (from.records.length < drawn) {
    throw new LowbitError(
      'TASK_SHOTS',
      `${from.name}: has ${from.records.length} records, and ${count} shots need ${drawn}; ask for fewer`,
    );
  }
  const random = pythonRandom(SHOTS_SEED);
  const solved = new Map<number, string>();
  const textAt = (i: number): string => {
    const text = solved.get(i) ?? solvedText(task.question(from.records[i]));
    solved.set(i, text);
    return text;
  };
  const bodies = isExcluding ? from.records.map(({ value }) => JSON.stringify(value)) : [];
  return records.map(({ value }) => {
    const own = isExcluding ? JSON.stringify(value) : undefined;
    const others = random.sample(from.records.length, drawn).filter((i) => bodies[i] !== own || own === undefined);
    return others.slice(0, count).map(textAt).join('');
  });
}

/** A space before the answer, whatever the task scores its endings behind. */
function solvedText({ prompts, endings, gold }: Question): string {
  return `${prompts[gold]} ${endings[gold]}${BETWEEN}`;
}
