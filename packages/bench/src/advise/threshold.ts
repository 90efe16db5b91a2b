// How far a quantized model may be from the dense one: a metric and the most it may be.
import { LowbitError, type Score } from '@lowbit/core';
import { type Estimate, exponentiate } from '@lowbit/eval';
import { didYouMean } from '../suggestion.js';

interface Metric {
  /** What is read of the text evaluator's scores. */
  readonly score: string;
  readonly from: (score: Estimate) => Estimate;
  /** The dense model's own value: nothing below it can be asked for. */
  readonly dense: number;
}

const metrics = {
  /** Perplexity over that of the dense model, from the paired difference of losses: its error is much smaller than that of either. */
  'perplexity-ratio': { score: 'loss-gap', from: exponentiate, dense: 1 },
  /** Mean KL divergence from the dense model's predictions, nats a token. */
  kl: { score: 'kl', from: (kl) => kl, dense: 0 },
} satisfies Record<string, Metric>;

export type AdviceMetric = keyof typeof metrics;

export const adviceMetrics = Object.keys(metrics) as readonly AdviceMetric[];

/** Met by a value of at most `value`. */
export interface Threshold {
  readonly metric: AdviceMetric;
  readonly value: number;
}

/**
 * Reads 'perplexity-ratio=1.1' or 'kl=0.05'.
 * @throws THRESHOLD_SYNTAX, THRESHOLD_METRIC, THRESHOLD_VALUE for a value that is no number, or that only the dense model could meet.
 */
export function parseThreshold(text: string): Threshold {
  const at = text.indexOf('=');
  const [name, value] = [text.slice(0, at).trim(), text.slice(at + 1).trim()];
  if (at < 0)
    throw new LowbitError('THRESHOLD_SYNTAX', `threshold '${text}': expected <metric>=<value>; write kl=0.05 or perplexity-ratio=1.1`);
  const metric = adviceMetrics.find((known) => known === name);
  if (metric === undefined)
    throw new LowbitError('THRESHOLD_METRIC', `threshold '${text}': no metric '${name}'; ${didYouMean(name, adviceMetrics)}`);
  const { dense } = metrics[metric];
  const most = Number(value);
  if (value === '' || !Number.isFinite(most) || most <= dense) {
    throw new LowbitError(
      'THRESHOLD_VALUE',
      `threshold '${text}': expected a number above ${dense}, which is what the dense model has; write ${metric}=${dense + 0.1}`,
    );
  }
  return { metric, value: most };
}

/** The metric's value among the scores of a model that was compared with the dense one. */
export function valueOf({ metric }: Threshold, scores: readonly Score[]): Estimate {
  const { score: name, from } = metrics[metric];
  const score = scores.find(({ evaluator }) => evaluator === name);
  if (!score) throw new LowbitError('SCORE_MISSING', `${metric}: the evaluator gave no '${name}'; judge against the dense model`);
  return from(score);
}
