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
    throw new LowbitError(
      'EVALUATOR_FILES',
      'disk: the model has no files; save it with `lowbit quantize` and judge it with `lowbit eval`',
    );
  },
} satisfies Record<string, (judged: Judged) => Evaluator>;

export type EvaluatorName = keyof typeof factories;

export const evaluatorNames = Object.keys(factories) as readonly EvaluatorName[];

/** @throws EVALUATOR_UNKNOWN naming the known ones. */
export function evaluatorName(name: string): EvaluatorName {
  const found = evaluatorNames.find((known) => known === name);
  if (!found) throw new LowbitError('EVALUATOR_UNKNOWN', `no evaluator '${name}'; ${didYouMean(name, evaluatorNames)}`);
  return found;
}

/** Evaluators by name over one held-out text. @throws EVALUATOR_FILES for 'disk' without a directory. */
export function evaluatorsOf(names: readonly EvaluatorName[], judged: Judged): Evaluator[] {
  return names.map((name) => factories[name](judged));
}
