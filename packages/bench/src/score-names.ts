// Which scores an evaluator gives: what failed is called by its evaluator, columns of tables by their score.
import type { EvaluatorName } from './evaluators.js';

const scores: Readonly<Record<EvaluatorName, readonly string[]>> = {
  text: ['perplexity', 'kl', 'top1-agreement', 'loss-gap'],
  'layer-error': ['layer-error'],
  task: ['task-accuracy', 'task-loss'],
  size: ['bits-per-weight', 'bits-per-weight-whole-model'],
  speed: ['prefill-tokens-per-second', 'decode-tokens-per-second'],
  memory: ['peak-rss-mib'],
  disk: ['bytes-on-disk'],
};

/** Whether an evaluator, or what is called as one of its scores, gives a score; those of a task begin with its name. */
export function gives(evaluator: string, score: string): boolean {
  if (evaluator === score || score.startsWith(`${evaluator}/`)) return true;
  return Object.hasOwn(scores, evaluator) && scores[evaluator as EvaluatorName].includes(score);
}
