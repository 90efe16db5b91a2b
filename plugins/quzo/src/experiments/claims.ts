// Claims about losses of a few seeds: what counts as a fall, and what as equal.
import type { ClaimVerdict, ExperimentClaim, ExperimentRow } from '@lowbit/core';
import { combine, type Sample, samplesOf, show, showSample, valuesOf } from '@lowbit/core/experiments';

/** Upper 5 % points of Student's t by degrees of freedom, from 1. */
const points = [6.314, 2.92, 2.353, 2.132, 2.015, 1.943, 1.895, 1.86, 1.833];

/** First minus second, seed by seed: what both owe to the seed drops out. */
function difference(first: Sample, second: Sample): Sample {
  return combine((a, b) => a - b, first, second);
}

/** The least mean of a difference that a one-sided test at 5 % calls positive; infinite for one seed. */
function leastGain({ bySeed, deviation }: Sample): number {
  const point = points[Math.min(bySeed.size - 1, points.length) - 1] ?? Number.POSITIVE_INFINITY;
  return (point * deviation) / Math.sqrt(bySeed.size);
}

/** Paired t test, one-sided, at 5 %: whether the first is below the second. */
export function isBelow(first: Sample, second: Sample): boolean {
  const gain = difference(second, first);
  return gain.mean > 0 && gain.mean > leastGain(gain);
}

/** What the test could have told: by how much the first is below the second, and what would have been enough. */
export function power(first: Sample, second: Sample): string {
  const gain = difference(second, first);
  return `${show(gain.mean)} less, ${show(leastGain(gain))} less would be significant`;
}

/** First minus second, by its mean. */
export function excess(first: Sample, second: Sample): number {
  return difference(first, second).mean;
}

/**
 * What two means of equally good ways may differ by, as seeds differ: two standard deviations of the difference of two such means. Stricter
 * than that no test tells them apart, which few seeds never do.
 */
export function seedNoise(first: Sample, second: Sample): number {
  return 2 * Math.sqrt((first.deviation ** 2 + second.deviation ** 2) / first.bySeed.size);
}

/** Arms that are compared on each model. */
export interface Comparison {
  /** What they are compared by: the added loss unless told otherwise. */
  readonly field?: string;
  /** What the arms have in common: 'INT4'. */
  readonly subject: string;
  /** Fields that tell an arm's rows, by what the evidence calls the arm. */
  readonly arms: Readonly<Record<string, ExperimentRow>>;
  /** The field of each arm, in their order, and the share of elements that a step changes. */
  holds(values: readonly Sample[], changed: readonly Sample[]): boolean;
  /** More for the evidence. */
  detail?(values: readonly Sample[], changed: readonly Sample[]): string;
}

/** One verdict for each comparison on each model that has rows of all its arms. */
export function claimOn(name: string, statement: string, comparisons: readonly Comparison[]): ExperimentClaim {
  return {
    name,
    statement,
    check: (rows) => valuesOf(rows, 'model').flatMap((model) => comparisons.flatMap((one) => verdictOn(rows, model, one))),
  };
}

function verdictOn(rows: readonly ExperimentRow[], model: ExperimentRow[string], comparison: Comparison): ClaimVerdict[] {
  const { subject, field = 'loss-gap', arms, holds, detail } = comparison;
  const settings = Object.values(arms).map((arm) => ({ model, ...arm }));
  const values = samplesOf(rows, settings, field);
  const changed = samplesOf(rows, settings, 'changed');
  if (!values || !changed) return [];
  const measured = Object.keys(arms).map((arm, i) => `${arm} ${showSample(values[i])}`);
  const evidence = [...measured, ...(detail ? [detail(values, changed)] : [])].join('; ');
  return [{ subject: `${model}, ${subject}`, holds: holds(values, changed), evidence }];
}
