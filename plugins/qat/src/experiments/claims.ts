// Claims that compare arms on each model by the loss that they add.
import type { ExperimentClaim, ExperimentRow } from '@lowbit/core';
import { ascends, combine, type Sample, samplesOf, showSample, valuesOf } from '@lowbit/core/experiments';

/** Arms that are compared, on each model. */
export interface Comparison {
  /** What the arms have in common: '2 bits'. */
  readonly subject: string;
  /** Fields that tell an arm's rows, by what the evidence calls the arm. */
  readonly arms: Readonly<Record<string, ExperimentRow>>;
  /** The added loss of each arm, in their order. */
  holds(gaps: readonly Sample[]): boolean;
  /** What the evidence gives in place of the arms: figures made of their losses, by name. */
  figures?(gaps: readonly Sample[]): Readonly<Record<string, Sample>>;
}

/** One verdict for each comparison on each model that has rows of all its arms. */
export function claimOn(name: string, statement: string, comparisons: readonly Comparison[]): ExperimentClaim {
  return {
    name,
    statement,
    check: (rows) =>
      valuesOf(rows, 'model').flatMap((model) =>
        comparisons.flatMap(({ subject, arms, holds, figures }) => {
          const settings = Object.values(arms).map((arm) => ({ model, ...arm }));
          const gaps = samplesOf(rows, settings, 'loss-gap');
          if (!gaps) return [];
          const shown = figures ? Object.entries(figures(gaps)) : Object.keys(arms).map((arm, i) => [arm, gaps[i]] as const);
          const evidence = shown.map(([what, sample]) => `${what} ${showSample(sample)}`);
          return [{ subject: `${String(model)}, ${subject}`, holds: holds(gaps), evidence: evidence.join('; ') }];
        }),
      ),
  };
}

/** Each arm adds less loss than the next, in every seed. */
export function ascending(subject: string, arms: Comparison['arms']): Comparison {
  return { subject, arms, holds: ascends };
}

/** First minus second, seed by seed: what both owe to the seed drops out. */
export function difference(first: Sample, second: Sample): Sample {
  return combine((a, b) => a - b, first, second);
}

export function inEverySeed({ bySeed }: Sample, holds: (value: number) => boolean): boolean {
  return [...bySeed.values()].every(holds);
}
