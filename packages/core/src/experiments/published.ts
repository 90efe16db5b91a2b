// Claims about published figures: what is calculated beside them.
import type { ExperimentClaim } from '../experiment.js';
import { numberOf } from './samples.js';

export interface PublishedFigure {
  readonly name: string;
  readonly statement: string;
  readonly value: number;
  /** How far off a calculated one may be, relative. */
  readonly within: number;
}

/** A verdict on each row whose field `published` is the figure: on `calculated`, a `quantity` over a `baseline`. */
export function publishedClaim({ name, statement, value, within }: PublishedFigure): ExperimentClaim {
  return {
    name,
    statement,
    check: (rows) =>
      rows
        .filter((row) => row['published'] === value)
        .map((row) => {
          const calculated = numberOf(row['calculated']);
          return {
            subject: `${row['quantity']}; over ${row['baseline']}`,
            holds: Math.abs(calculated / value - 1) <= within,
            evidence: `${calculated.toFixed(3)}, published ${value}`,
          };
        }),
  };
}
