// What one benchmark cell yields: one JSON line per number, with everything needed to compare it with another.
import type { RecipeSummary } from './recipe.js';

/** What produced the numbers: package versions by name, Node, and the commit of a checkout. */
export interface Provenance {
  readonly versions: Readonly<Record<string, string>>;
  /** The engine with its version, provider and number of threads: equal bytes come of equal ones. */
  readonly backend: string;
  /** Commit of the checkout the code ran from, with '+' when files differed from it; null outside a checkout. */
  readonly commit: string | null;
}

/** The data of a cell. */
interface CalibrationRecord {
  readonly description: string;
  /** sha256 over the token ids. */
  readonly hash: string;
}

interface RowBase extends Provenance, RecipeSummary {
  readonly model: string;
  /** Name of the recipe: 'gptq-2', or 'dense' for the model as it is. */
  readonly recipe: string;
  readonly seed: number;
  readonly calibration: CalibrationRecord | null;
  /** What the recipe was tuned for, where it was tuned for a task. */
  readonly task?: CalibrationRecord | undefined;
  readonly evaluator: string;
  /** Bits of the inputs that Linears compute with, where they are quantized too. */
  readonly activationBits?: number | undefined;
  /** Wall time of quantizing the model; 0 for the dense one. */
  readonly seconds: number;
  /** Largest resident memory of the process since the cell began, MiB. */
  readonly peakRssMiB: number;
}

/** A cell that gave a number. */
export interface ScoreRow extends RowBase {
  readonly evaluatorVersion: number;
  readonly value: number;
  /** NaN where it is not known: of a single window. */
  readonly stderr: number;
  readonly samples: number;
  readonly higherIsBetter: boolean;
  /** Bits per weight of the blocks' Linears, with scales, offsets and adapters counted. */
  readonly bitsPerWeight: number;
  readonly evaluateSeconds: number;
  /** The value of each part, where the score has parts: of each Linear by its path. */
  readonly parts?: Readonly<Record<string, number>> | undefined;
  /** Of a score of a text: what each of its windows makes the value, which is their mean. Rows that are compared window by window have one protocol. */
  readonly byWindow?: readonly number[] | undefined;
  readonly protocol: Readonly<Record<string, unknown>>;
}

/** What failed, or cannot be judged: the run went on without it. */
export interface FailedRow extends RowBase {
  readonly value: null;
  readonly stderr: null;
  readonly bitsPerWeight: number | null;
  readonly error: { readonly code: string; readonly message: string };
}

export type BenchRow = ScoreRow | FailedRow;

export function isScore(row: BenchRow): row is ScoreRow {
  return row.value !== null;
}

/** Code of a row of what an evaluator has nothing to say of: nothing failed, and nothing changes when it is tried again. */
export const NOT_APPLICABLE = 'NOT_APPLICABLE';

export function hasFailed(row: BenchRow): row is FailedRow {
  return !isScore(row) && row.error.code !== NOT_APPLICABLE;
}

/** A row as it was before it was written: JSON has no word for a standard error that is not known. */
export function readRow(row: BenchRow): BenchRow {
  return isScore(row) ? { ...row, stderr: (row.stderr as number | null) ?? Number.NaN } : row;
}
