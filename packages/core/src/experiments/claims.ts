// Claims that compare arms on each model by fields of their rows.
import type { ClaimVerdict, ExperimentClaim, ExperimentRow } from '../experiment.js';
import { combine, type Sample, samplesOf, showSample, valuesOf } from './samples.js';

/** Rows that are compared, on each model. */
export interface ComparedRows {
  /** What they have in common: '2 bits'. Verdicts of claims about models as such leave it out. */
  readonly subject?: string;
  /** Fields that tell the rows of an arm, by what the evidence calls it. */
  readonly arms: Readonly<Record<string, ExperimentRow>>;
}

/** One verdict for each model that has rows of all arms. `judge` is given a list of samples for each field, one sample an arm. */
export function verdictsOn(
  rows: readonly ExperimentRow[],
  { subject, arms, fields }: ComparedRows & { readonly fields: readonly string[] },
  judge: (...samples: Sample[][]) => Omit<ClaimVerdict, 'subject'>,
): ClaimVerdict[] {
  return valuesOf(rows, 'model').flatMap((model) => {
    const settings = Object.values(arms).map((arm) => ({ model, ...arm }));
    const samples = fields.map((field) => samplesOf(rows, settings, field));
    if (!samples.every((of) => of !== undefined)) return [];
    return [{ subject: [String(model), ...(subject === undefined ? [] : [subject])].join(', '), ...judge(...samples) }];
  });
}

/** Arms that are compared by one field. */
export interface Comparison extends ComparedRows {
  /** The added loss unless told otherwise. */
  readonly field?: string;
  /** Of the field of each arm, in their order. */
  holds(values: readonly Sample[]): boolean;
  /** What the evidence gives beside the arms: figures made of their values, by name. */
  figures?(values: readonly Sample[]): Readonly<Record<string, Sample>>;
}

/** One verdict for each comparison on each model that has rows of all its arms. */
export function claimOn(name: string, statement: string, comparisons: readonly Comparison[]): ExperimentClaim {
  return {
    name,
    statement,
    check: (rows) =>
      valuesOf(rows, 'model').flatMap((model) => {
        const own = rows.filter((row) => row['model'] === model);
        return comparisons.flatMap(({ field = 'loss-gap', holds, figures, ...compared }) =>
          verdictsOn(own, { ...compared, fields: [field] }, (values) => ({
            holds: holds(values),
            evidence: evidenceOf(compared.arms, values, figures?.(values)),
          })),
        );
      }),
  };
}

/** 'RTN 0.5; GPTQ 0.2': the sample of each arm by its name, and figures made of them. */
export function evidenceOf(arms: ComparedRows['arms'], values: readonly Sample[], figures: Readonly<Record<string, Sample>> = {}): string {
  const shown = [...Object.keys(arms).map((arm, i) => [arm, values[i]] as const), ...Object.entries(figures)];
  return shown.map(([what, sample]) => `${what} ${showSample(sample)}`).join('; ');
}

/** First minus second, seed by seed: what both owe to the seed drops out. */
export function difference(first: Sample, second: Sample): Sample {
  return combine((a, b) => a - b, first, second);
}

export function inEverySeed({ bySeed }: Sample, holds: (value: number) => boolean): boolean {
  return [...bySeed.values()].every(holds);
}
