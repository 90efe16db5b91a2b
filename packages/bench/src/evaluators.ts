// The evaluators that a benchmark can name.
import { type Evaluator, type FinetuneTask, LowbitError } from '@lowbit/core';
import type { TokenWindows } from '@lowbit/data';
import { diskEvaluator, layerErrorEvaluator, sizeEvaluator, taskEvaluator, textEvaluator } from '@lowbit/eval';
import { memoryEvaluator, speedEvaluator } from './speed-evaluator.js';
import { didYouMean } from './suggestion.js';

/** What evaluators are made from. */
export interface Judged {
  /** Held-out text, if an evaluator that reads it is among those that are wanted. */
  readonly windows?: TokenWindows | undefined;
  readonly task?: FinetuneTask | undefined;
  /** Where the model's files lie, if it is a saved one. */
  readonly directory?: string | undefined;
}

const factories = {
  /** perplexity, kl, top1-agreement, loss-gap. */
  text: (judged: Judged) => textEvaluator(textOf(judged)),
  'layer-error': (judged: Judged) => layerErrorEvaluator(textOf(judged)),
  /** task-accuracy, task-loss. */
  task: ({ task }: Judged) => {
    if (task) return taskEvaluator(task);
    throw new LowbitError('EVALUATOR_TASK', 'task: there is no task to judge by; name one, on the command line with --task');
  },
  size: () => sizeEvaluator(),
  /** prefill-tokens-per-second, decode-tokens-per-second. */
  speed: () => speedEvaluator(),
  /** peak-rss-mib. */
  memory: () => memoryEvaluator(),
  disk: ({ directory }: Judged) => {
    if (directory !== undefined) return diskEvaluator(directory);
    throw noFiles();
  },
} satisfies Record<string, (judged: Judged) => Evaluator>;

export type EvaluatorName = keyof typeof factories;

/** Whether one of the evaluators reads held-out text. */
export function readsText(names: readonly EvaluatorName[]): boolean {
  return names.some((name) => name === 'text' || name === 'layer-error');
}

function textOf({ windows }: Judged): TokenWindows {
  if (windows) return windows;
  throw new LowbitError('EVALUATOR_TEXT', 'there is no held-out text to judge by; prepare some for evaluators that read it');
}

export const evaluatorNames = Object.keys(factories) as readonly EvaluatorName[];

/** Those that judge a model in memory: what a benchmark has. */
export const modelEvaluatorNames: readonly EvaluatorName[] = evaluatorNames.filter((name) => name !== 'disk');

/**
 * An evaluator by what a person typed, one of `known`.
 * @throws EVALUATOR_UNKNOWN naming the known ones; EVALUATOR_FILES for 'disk' where it is not among them.
 */
export function evaluatorName(name: string, known = evaluatorNames): EvaluatorName {
  const found = known.find((one) => one === name);
  if (found) return found;
  if (name === 'disk') throw noFiles();
  throw new LowbitError('EVALUATOR_UNKNOWN', `no evaluator '${name}'; ${didYouMean(name, known)}`);
}

function noFiles(): LowbitError {
  return new LowbitError('EVALUATOR_FILES', 'disk: the model has no files; save it with `lowbit quantize` and judge it with `lowbit eval`');
}

/**
 * Evaluators by name over one held-out text and one task.
 * @throws EVALUATOR_FILES for 'disk' without a directory, EVALUATOR_TASK for 'task' without one, EVALUATOR_TEXT.
 */
export function evaluatorsOf(names: readonly EvaluatorName[], judged: Judged): Evaluator[] {
  return names.map((name) => factories[name](judged));
}
