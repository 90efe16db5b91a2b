// From log-likelihoods of choices to scores and their standard errors, as EleutherAI's lm-evaluation-harness computes them.
import { createRng } from '@lowbit/core';
import type { Estimate } from '../ratio.js';
import { deviationOf, meanOf } from '../sample.js';
import { lengthOf } from './python-text.js';

/**
 * acc: the right choice is the likeliest; with one choice alone, it is what greedy decoding writes. acc_norm: the likeliest by character.
 * f1 and mcc: of the choice 1 among two. perplexity: of what is scored, by example.
 */
export type ChoiceMetric = 'acc' | 'acc_norm' | 'f1' | 'mcc' | 'perplexity';

/** An example that has been scored. */
export interface Scored {
  /** What was scored, without what joins it to the prompt. */
  readonly endings: readonly string[];
  readonly gold: number;
  /** In nats, of each ending. */
  readonly logLikelihoods: readonly number[];
  /** Whether each token of an ending is the likeliest. */
  readonly isGreedy: readonly boolean[];
}

type Statistic = (values: readonly (readonly number[])[]) => number;

interface Metric {
  readonly higherIsBetter: boolean;
  /** What the statistic needs of an example. */
  readonly valuesOf: (example: Scored) => readonly number[];
  readonly statistic: Statistic;
  /** By resampling; else from the deviation between examples. */
  readonly isBootstrapped: boolean;
}

const BOOTSTRAP_ROUNDS = 1000;

const share = { higherIsBetter: true, statistic: mean, isBootstrapped: false };
const pairs = { higherIsBetter: true, valuesOf: goldAndPrediction, isBootstrapped: true };

const metrics: Readonly<Record<ChoiceMetric, Metric>> = {
  acc: {
    ...share,
    valuesOf: (example) => {
      const { gold, isGreedy, logLikelihoods } = example;
      return [Number(logLikelihoods.length === 1 ? isGreedy[0] : gold === likeliest(logLikelihoods))];
    },
  },
  acc_norm: {
    ...share,
    valuesOf: ({ gold, endings, logLikelihoods }) => [
      Number(gold === likeliest(logLikelihoods.map((value, i) => value / lengthOf(endings[i])))),
    ],
  },
  f1: { ...pairs, statistic: f1 },
  mcc: { ...pairs, statistic: mcc },
  perplexity: {
    higherIsBetter: false,
    valuesOf: ({ logLikelihoods }) => [logLikelihoods[0]],
    statistic: (values) => Math.exp(-mean(values)),
    isBootstrapped: true,
  },
};

export function isHigherBetter(metric: ChoiceMetric): boolean {
  return metrics[metric].higherIsBetter;
}

/** How the standard error of a metric is found, for protocols. */
export function standardErrorOf(metric: ChoiceMetric): string {
  return metrics[metric].isBootstrapped ? `bootstrap over examples, ${BOOTSTRAP_ROUNDS} resamples` : 'between examples';
}

/** A metric of scored examples with its standard error: NaN of one example, of which it is not known. */
export function measure(metric: ChoiceMetric, examples: readonly Scored[]): Estimate {
  const { valuesOf, statistic, isBootstrapped } = metrics[metric];
  const values = examples.map(valuesOf);
  const count = values.length;
  if (!isBootstrapped) return meanOf(values.map(([one]) => one));
  const value = statistic(values);
  // Drawn again, one example is always itself: that is no certainty.
  if (count < 2) return { value, stderr: Number.NaN };
  const rng = createRng(0).at('bootstrap', metric);
  const rounds = Array.from({ length: BOOTSTRAP_ROUNDS }, (_, round) =>
    statistic(Array.from(rng.at(round).integers(count, count), (i) => values[i])),
  );
  return { value, stderr: deviationOf(rounds) };
}

/** Index of the largest, the first of equals. */
function likeliest(values: readonly number[]): number {
  return values.reduce((best, value, i) => (value > values[best] ? i : best), 0);
}

function goldAndPrediction({ gold, logLikelihoods }: Scored): readonly number[] {
  return [gold, likeliest(logLikelihoods)];
}

function mean(values: readonly (readonly number[])[]): number {
  return values.reduce((sum, [value]) => sum + value, 0) / values.length;
}

/** How many have this gold and this prediction. */
function countOf(values: readonly (readonly number[])[], gold: number, prediction: number): number {
  return values.filter((pair) => pair[0] === gold && pair[1] === prediction).length;
}

function f1(values: readonly (readonly number[])[]): number {
  const [hits, missed, wrong] = [countOf(values, 1, 1), countOf(values, 1, 0), countOf(values, 0, 1)];
  return hits === 0 ? 0 : (2 * hits) / (2 * hits + missed + wrong);
}

/** Matthews' correlation coefficient; 0 where one side never varies. */
function mcc(values: readonly (readonly number[])[]): number {
  const [tp, fn, fp, tn] = [countOf(values, 1, 1), countOf(values, 1, 0), countOf(values, 0, 1), countOf(values, 0, 0)];
  const spread = (tp + fn) * (tn + fp) * (tp + fp) * (tn + fn);
  return spread === 0 ? 0 : (tp * tn - fp * fn) / Math.sqrt(spread);
}
