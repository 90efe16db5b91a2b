// Rows for tests of what is made from rows.
import type { BenchRow, FailedRow, ScoreRow } from '../src/row.js';

const base = {
  steps: [],
  seed: 0,
  calibration: null,
  seconds: 1.5,
  peakRssMiB: 300,
  versions: {},
  backend: 'reference',
  commit: null,
} as const;

/** A perplexity row. `method` 'dense' stands for the model as it is. */
export function scoreRow(method: string, bits: number | null, value: number, more: Partial<ScoreRow> = {}): ScoreRow {
  return {
    ...base,
    model: 'tiny',
    recipe: bits === null ? method : `${method}-${bits}`,
    method,
    bits,
    groupSize: bits === null ? null : 32,
    evaluator: 'perplexity',
    evaluatorVersion: 1,
    value,
    stderr: 0.01,
    samples: 100,
    higherIsBetter: false,
    bitsPerWeight: bits === null ? 16 : bits + 0.5,
    evaluateSeconds: 0.5,
    protocol: {},
    ...more,
  };
}

export function failedRow(method: string, bits: number, code: string): FailedRow {
  const { value: _, stderr: __, ...row } = scoreRow(method, bits, 0) as BenchRow & Record<string, unknown>;
  return {
    ...(row as unknown as FailedRow),
    value: null,
    stderr: null,
    bitsPerWeight: null,
    error: { code, message: `${code}: somewhere: something` },
  };
}
