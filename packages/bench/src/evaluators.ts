// The evaluators that a benchmark can name.
import { type Evaluator, LowbitError } from '@lowbit/core';
import type { TokenWindows } from '@lowbit/data';
import { layerErrorEvaluator, sizeEvaluator, textEvaluator } from '@lowbit/eval';
import { didYouMean } from './suggestion.js';

const factories = {
  /** perplexity, kl, top1-agreement, loss-gap. */
  text: (windows: TokenWindows) => textEvaluator(windows),
  'layer-error': (windows: TokenWindows) => layerErrorEvaluator(windows),
  size: () => sizeEvaluator(),
} satisfies Record<string, (windows: TokenWindows) => Evaluator>;

export type EvaluatorName = keyof typeof factories;

export const evaluatorNames = Object.keys(factories) as readonly EvaluatorName[];

/** @throws EVALUATOR_UNKNOWN naming the known ones. */
export function evaluatorName(name: string): EvaluatorName {
  const found = evaluatorNames.find((known) => known === name);
  if (!found) throw new LowbitError('EVALUATOR_UNKNOWN', `no evaluator '${name}'; ${didYouMean(name, evaluatorNames)}`);
  return found;
}

/** Evaluators by name over one held-out text. */
export function evaluatorsOf(names: readonly EvaluatorName[], windows: TokenWindows): Evaluator[] {
  return names.map((name) => factories[name](windows));
}
