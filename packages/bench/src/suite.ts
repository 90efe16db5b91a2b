// Tasks of the literature by their names, over files of their datasets.
import { type Evaluator, LowbitError } from '@lowbit/core';
import { openRecords } from '@lowbit/data';
import { type ChoiceTask, choiceEvaluator, choiceTasks } from '@lowbit/eval';
import type { ResolvedModel } from './model-reference.js';
import { didYouMean } from './suggestion.js';

export interface SuiteSource {
  /** 'arc_easy', 'piqa', …: as lm-evaluation-harness calls them. */
  readonly names: readonly string[];
  /** The directory of their files, as `openRecords` finds them. */
  readonly data: string;
  /** Solved examples before each question; none by default. */
  readonly shots?: number | undefined;
  /** Examples of each task at most. */
  readonly limit?: number | undefined;
}

export const suiteNames: readonly string[] = [...choiceTasks.keys()];

/** @throws TASK_UNKNOWN naming the known ones. */
export function suiteName(name: string): string {
  if (suiteNames.includes(name)) return name;
  throw new LowbitError('TASK_UNKNOWN', `no task '${name}'; ${didYouMean(name, suiteNames)}`);
}

/**
 * An evaluator for each task.
 * @throws TASK_UNKNOWN, and what `openRecords` throws.
 */
export async function openSuite(source: SuiteSource, resolved: Pick<ResolvedModel, 'tokenizer'>): Promise<Evaluator[]> {
  const evaluators: Evaluator[] = [];
  for (const name of source.names) evaluators.push(await openChoice(choiceTasks.get(suiteName(name)) as ChoiceTask, source, resolved));
  return evaluators;
}

/** Solved examples are from the training split. */
async function openChoice(
  task: ChoiceTask,
  { data, shots = 0, limit }: SuiteSource,
  { tokenizer }: Pick<ResolvedModel, 'tokenizer'>,
): Promise<Evaluator> {
  const records = await openRecords(data, task.name, task.split);
  const from = shots > 0 ? await openRecords(data, task.name, 'train') : undefined;
  return choiceEvaluator({ task, records, limit, tokenizer, shots: from && { count: shots, from } });
}
