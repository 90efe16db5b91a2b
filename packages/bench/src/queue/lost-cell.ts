// The rows of a cell that could not be run, here or in another process: one for every evaluator, as of a cell that failed.
import type { Recipe } from '@lowbit/core';
import type { BenchCell } from '../outcome.js';
import type { Protocol } from '../prepared-model.js';
import { summarizeRecipe } from '../recipe.js';
import type { FailedRow, Provenance } from '../row.js';
import type { TaskFailure } from './task.js';

/** `provenance` is that of the process that writes the rows: what another one was made of died with it. */
export function lostCellRows(
  { evaluators, tasks }: Pick<Protocol, 'evaluators' | 'tasks'>,
  { model, recipe: name, seed }: BenchCell,
  { recipe, failure, provenance }: { recipe: Recipe; failure: TaskFailure; provenance: Provenance },
): FailedRow[] {
  const { method, bits, groupSize, steps } = summarizeRecipe(recipe);
  return [...evaluators, ...(tasks?.names ?? [])].map((evaluator) => ({
    ...{ model, recipe: name, method, bits, groupSize, bitsPerWeight: null, evaluator, value: null, stderr: null },
    ...{ seconds: 0, peakRssMiB: 0, seed, calibration: null, steps },
    ...provenance,
    error: { code: failure.code, message: failure.message },
  }));
}
