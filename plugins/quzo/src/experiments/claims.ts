// Claims about losses of a few seeds: what counts as a fall, and what as equal.
import type { ExperimentClaim } from '@lowbit/core';
import { type ComparedRows, difference, evidenceOf, type Sample, show, valuesOf, verdictsOn } from '@lowbit/core/experiments';

/** Upper 5 % points of Student's t by degrees of freedom, from 1. */
const points = [6.314, 2.92, 2.353, 2.132, 2.015, 1.943, 1.895, 1.86, 1.833];

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
export interface Comparison extends ComparedRows {
  /** What they are compared by: the added loss unless told otherwise. */
  readonly field?: string;
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
    check: (rows) =>
      valuesOf(rows, 'model').flatMap((model) => {
        const own = rows.filter((row) => row['model'] === model);
        return comparisons.flatMap(({ field = 'loss-gap', holds, detail, ...compared }) =>
          verdictsOn(own, { ...compared, fields: [field, 'changed'] }, (values, changed) => ({
            holds: holds(values, changed),
            evidence: [evidenceOf(compared.arms, values), ...(detail ? [detail(values, changed)] : [])].join('; '),
          })),
        );
      }),
  };
}
