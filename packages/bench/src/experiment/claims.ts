// What must come out, held against what did.
import type { ClaimVerdict, Experiment, ExperimentRow } from '@lowbit/core';
import { resultsIn } from './rows.js';

/** A claim, and what the rows say about it. */
export interface CheckedClaim {
  readonly name: string;
  readonly statement: string;
  /** None where the rows lack what the claim compares. */
  readonly verdicts: readonly ClaimVerdict[];
  /** Why it could not be checked. */
  readonly error?: string;
}

/** Checks all claims of an experiment. A check that throws, as it may on a part of the arms, gives no verdict. */
export function checkClaims({ claims = [] }: Experiment, rows: readonly ExperimentRow[]): CheckedClaim[] {
  const results = resultsIn(rows);
  return claims.map((claim) => {
    const { name, statement } = claim;
    try {
      return { name, statement, verdicts: claim.check(results) };
    } catch (error) {
      return { name, statement, verdicts: [], error: error instanceof Error ? error.message : String(error) };
    }
  });
}

/** Whether there is a verdict, and each says that the claim holds. */
export function holds({ verdicts }: CheckedClaim): boolean {
  return verdicts.length > 0 && verdicts.every((verdict) => verdict.holds);
}

/** A Markdown list: each claim with its verdicts and what they rest on. */
export function claimLines(claims: readonly CheckedClaim[]): string[] {
  return claims.flatMap((claim) => {
    const { name, statement, verdicts, error } = claim;
    if (verdicts.length === 0) return [`- – ${name}: ${statement}`, `  - no verdict: ${error ?? 'the rows lack what it compares'}`];
    return [
      `- ${mark(holds(claim))} ${name}: ${statement}`,
      ...verdicts.map(({ subject, holds, evidence }) => `  - ${mark(holds)} ${subject}: ${evidence}`),
    ];
  });
}

function mark(isGood: boolean): string {
  return isGood ? '✔' : '✘';
}
