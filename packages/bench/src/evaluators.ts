// The evaluators that a benchmark can name.
import { type Evaluator, LowbitError } from '@lowbit/core';
import type { TokenWindows } from '@lowbit/data';
import { diskEvaluator, layerErrorEvaluator, sizeEvaluator, textEvaluator } from '@lowbit/eval';
import { didYouMean } from './suggestion.js';

/** What evaluators are made from. */
export interface Judged {
  /** Held-out text. */
  readonly windows: TokenWindows;
  /** Where the model's files lie, if it is a saved one. */
  readonly directory?: string | undefined;
}

const factories = {
  /** perplexity, kl, top1-agreement, loss-gap. */
  text: ({ windows }: Judged) => textEvaluator(windows),
  'layer-error': ({ windows }: Judged) => layerErrorEvaluator(windows),
  size: () => sizeEvaluator(),
  disk: ({ directory }: Judged) => {
    if (directory !== undefined) return diskEvaluator(directory);
    throw noFiles();
  },
} satisfies Record<string, (judged: Judged) => Evaluator>;

export type EvaluatorName = keyof typeof factories;

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

/** Evaluators by name over one held-out text. @throws EVALUATOR_FILES for 'disk' without a directory. */
export function evaluatorsOf(names: readonly EvaluatorName[], judged: Judged): Evaluator[] {
  return names.map((name) => factories[name](judged));
}
