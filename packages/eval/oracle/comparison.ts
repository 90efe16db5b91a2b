// When scores of this package and of lm-evaluation-harness are the same.
import type { ChoiceMetric } from '../src/index.js';

/** Largest difference of log-likelihoods allowed, in nats: both sides sum float32 numbers. */
export const BAR = 1e-3;

/** Both sides count the same examples, in float64. */
const ROUNDING = 1e-9;

/** A score of a task, with so many solved examples before each question, on both sides. */
export interface Comparison {
  readonly task: string;
  readonly shots: number;
  readonly metric: ChoiceMetric;
  readonly ours: number;
  readonly theirs: number;
  readonly stderr: number;
  readonly theirStderr: number;
  /** Largest difference of a log-likelihood, in nats. */
  readonly difference: number;
  /** Share of records with the same digest. */
  readonly sameHashes: number;
}

/**
 * Equal where both count the same examples, by the same formula; perplexities are as near as their log-likelihoods, and of what is resampled
 * each side draws samples of its own.
 */
export function agrees({ metric, ours, theirs, stderr, theirStderr, difference, sameHashes }: Comparison): boolean {
  const isEqual = metric === 'perplexity' ? Math.abs(Math.log(ours / theirs)) <= BAR : Math.abs(ours - theirs) <= ROUNDING;
  const isShare = metric === 'acc' || metric === 'acc_norm';
  const isAsCertain = !isShare || Math.abs(stderr - theirStderr) <= ROUNDING;
  return isEqual && isAsCertain && difference <= BAR && sameHashes === 1;
}

/** Scores that were expected and were not compared: a harness that answers fewer tasks has not agreed on the others. */
export function missing(
  rows: readonly Comparison[],
  tasks: readonly { readonly name: string; readonly metrics: readonly ChoiceMetric[] }[],
  shots: readonly number[],
): string[] {
  const nameOf = (task: string, metric: string, count: number): string => `${task}/${metric} with ${count} shots`;
  const there = new Set(rows.map(({ task, metric, shots: count }) => nameOf(task, metric, count)));
  const expected = shots.flatMap((count) => tasks.flatMap(({ name, metrics }) => metrics.map((metric) => nameOf(name, metric, count))));
  return expected.filter((name) => !there.has(name));
}
