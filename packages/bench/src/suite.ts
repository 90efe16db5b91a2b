// Tasks of the literature by their names, over files of their datasets.
import { resolve } from 'node:path';
import { type Evaluator, LowbitError } from '@lowbit/core';
import { findRecords, openRecords, type RecordsPlace, type RecordTable } from '@lowbit/data';
import {
  type ChoiceTask,
  type CodeSandbox,
  choiceEvaluator,
  choiceTasks,
  type GenerationTask,
  generationEvaluator,
  generationTasks,
  type JudgedAnswer,
  openCodeSandbox,
  type Shots,
} from '@lowbit/eval';
import { type HubOptions, isHubReference } from '@lowbit/hub';
import { generate } from '@lowbit/models';
import type { ResolvedModel } from './model-reference.js';
import { didYouMean } from './suggestion.js';

export interface SuiteSource {
  /** 'arc_easy', 'piqa', …: as lm-evaluation-harness calls them. */
  readonly names: readonly string[];
  /** The directory of their files, or 'hf:owner/name', as `openRecords` finds them. */
  readonly data: string;
  /** Solved examples before each question; by default as many as the task has by convention: 5 for gsm8k, none for the others. */
  readonly shots?: number | undefined;
  /** Examples of each task at most. */
  readonly limit?: number | undefined;
  /** Of a written answer at most, in place of the task's own number. */
  readonly answerTokens?: number | undefined;
  /** Whether programs that a model writes may be run, in a sandbox: 'humaneval' needs it. */
  readonly allowsCode?: boolean | undefined;
}

export const suiteNames: readonly string[] = [...choiceTasks.keys(), ...generationTasks.keys()];

/** @throws TASK_UNKNOWN naming the known ones. */
export function suiteName(name: string): string {
  if (suiteNames.includes(name)) return name;
  throw new LowbitError('TASK_UNKNOWN', `no task '${name}'; ${didYouMean(name, suiteNames)}`);
}

/** Where files lie, as a person says it: a directory as seen from another, or a dataset of the hub. */
export function suiteData(reference: string, directory: string): string {
  return isHubReference(reference) ? reference : resolve(directory, reference);
}

/** What tasks are opened for. */
interface SuiteContext extends Pick<ResolvedModel, 'tokenizer'>, Partial<Pick<ResolvedModel, 'hub'>> {
  /** Called with every answer that a model has written. */
  readonly onAnswer?: ((answer: JudgedAnswer) => void) | undefined;
}

/**
 * An evaluator for each task.
 * @throws TASK_UNKNOWN, CODE_EXECUTION for one that runs code where that is not allowed, and what `openRecords` and `openCodeSandbox` throw.
 */
export async function openSuite(source: SuiteSource, context: SuiteContext): Promise<Evaluator[]> {
  const evaluators: Evaluator[] = [];
  for (const name of source.names) {
    const choice = choiceTasks.get(suiteName(name));
    evaluators.push(
      choice
        ? await openChoice(choice, source, context)
        : await openGeneration(generationTasks.get(name) as GenerationTask, source, context),
    );
  }
  return evaluators;
}

/** Paths of the records that tasks read, by task and split: 'arc_easy test'. @throws TASK_UNKNOWN, and what `findRecords` throws. */
export async function suiteFiles(source: SuiteSource, hub?: HubOptions): Promise<ReadonlyMap<string, readonly string[]>> {
  const files = new Map<string, readonly string[]>();
  for (const name of source.names) {
    const choice = choiceTasks.get(suiteName(name));
    const task = choice ?? (generationTasks.get(name) as GenerationTask);
    const shots = source.shots ?? (choice ? 0 : (task as GenerationTask).shots);
    for (const split of [task.split, ...(shots > 0 ? ['train'] : [])]) {
      files.set(`${name} ${split}`, await findRecords(source.data, name, split, placeOf(task, source, split), hub));
    }
  }
  return files;
}

function recordsOf(task: ChoiceTask | GenerationTask, source: SuiteSource, wanted: string, hub?: HubOptions): Promise<RecordTable> {
  return openRecords(source.data, task.name, wanted, placeOf(task, source, wanted), hub);
}

/** Of several tasks in one place, each must have files that name it. */
function placeOf({ split, onHub }: ChoiceTask | GenerationTask, { names }: SuiteSource, wanted: string): RecordsPlace {
  const place = onHub && { folder: onHub.folder, split: wanted === split ? onHub.split : wanted };
  return { onHub: place, isShared: names.length > 1 };
}

async function openChoice(task: ChoiceTask, source: SuiteSource, { tokenizer, hub }: SuiteContext): Promise<Evaluator> {
  const { shots = 0, limit } = source;
  const records = await recordsOf(task, source, task.split, hub);
  return choiceEvaluator({ task, records, limit, tokenizer, shots: await shotsOf(task, source, shots, hub) });
}

/** Solved examples are from the training split. */
async function shotsOf(
  task: ChoiceTask | GenerationTask,
  source: SuiteSource,
  count: number,
  hub?: HubOptions,
): Promise<Shots | undefined> {
  return count > 0 ? { count, from: await recordsOf(task, source, 'train', hub) } : undefined;
}

async function openGeneration(task: GenerationTask, source: SuiteSource, { tokenizer, hub, onAnswer }: SuiteContext): Promise<Evaluator> {
  const { shots = task.shots, limit, answerTokens: maxTokens, allowsCode = false } = source;
  let sandbox: CodeSandbox | undefined;
  if (task.runsCode) {
    if (!allowsCode) {
      throw new LowbitError(
        'CODE_EXECUTION',
        `${task.name}: runs programs that the model writes, which has to be allowed; they are shut in, without files and network; on the command line, allow it with --allow-code-execution`,
      );
    }
    sandbox = await openCodeSandbox();
  }
  const records = await recordsOf(task, source, task.split, hub);
  return generationEvaluator({
    task,
    records,
    limit,
    tokenizer,
    shots: await shotsOf(task, source, shots, hub),
    generate,
    maxTokens,
    sandbox,
    onAnswer,
  });
}
