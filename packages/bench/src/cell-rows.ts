// The rows of one cell: what they have in common, and a score or an error in each.
import { LowbitError, type Score } from '@lowbit/core';
import { aimsAtTask } from '@lowbit/pipeline';
import { describeError } from './failure.js';
import { summarizeRecipe } from './recipe.js';
import type { BenchRow } from './row.js';
import type { CellWork } from './run-cell.js';
import type { CalibrationText } from './texts.js';

/** Fields are filled as they become known; rows made before then say so. */
export interface RowsAbout {
  calibration: CalibrationText | undefined;
  /** Of quantizing. */
  seconds: number;
  bitsPerWeight: number | null;
  activationBits: number | undefined;
  /** To be called before others measure the peak of the process, which makes the system forget the one so far. */
  keepPeak(): void;
  score(score: Score, evaluateSeconds: number): BenchRow;
  failure(evaluator: string, error: unknown): BenchRow;
}

/** What float32 is exact to: 16 digits a window would be most of the file. */
const shortened = (value: number): number => Number(value.toPrecision(7));

/** `peakMemory` gives MiB since the cell began, or since somebody else began to measure. */
export function rowsAbout({ prepared, recipe, seed, provenance }: CellWork, peakMemory: () => number): RowsAbout {
  const { resolved, task } = prepared;
  const { method, bits, groupSize, steps } = summarizeRecipe(recipe.recipe);
  const isTuned = task && recipe.recipe.some(aimsAtTask);
  let peak = 0;
  const peakSoFar = (): number => {
    peak = Math.max(peak, peakMemory());
    return peak;
  };
  // The fields in the order in which people read them.
  const head = { model: resolved.name, recipe: recipe.name, method, bits, groupSize };
  const tail = ({ seconds, calibration, activationBits }: RowsAbout) => ({
    ...(activationBits !== undefined && { activationBits }),
    seconds,
    peakRssMiB: peakSoFar(),
    seed,
    ...(isTuned && { task: { description: task.description, hash: task.hash } }),
    calibration: calibration ? { description: calibration.batches.description, hash: calibration.batches.hash } : null,
    steps,
    ...provenance,
  });
  return {
    calibration: undefined,
    seconds: 0,
    bitsPerWeight: null,
    activationBits: undefined,
    keepPeak: () => void peakSoFar(),
    score({ evaluator, value, stderr, samples, higherIsBetter, parts, byWindow, protocol, version }, evaluateSeconds) {
      if (!Number.isFinite(value)) {
        const remedy = 'the model overflows or has no such figure; look at its other scores, or quantize it more carefully';
        return this.failure(
          evaluator,
          new LowbitError('SCORE_NOT_FINITE', `${resolved.name} ${recipe.name}: ${evaluator} is ${value}; ${remedy}`),
        );
      }
      return {
        ...{ ...head, bitsPerWeight: this.bitsPerWeight ?? 0, evaluator, value, stderr },
        ...tail(this),
        ...{ samples, higherIsBetter, evaluatorVersion: version, evaluateSeconds },
        ...(parts && { parts }),
        ...(byWindow && { byWindow: byWindow.map(shortened) }),
        protocol,
      };
    },
    failure(evaluator, error) {
      const { bitsPerWeight } = this;
      return { ...head, bitsPerWeight, evaluator, value: null, stderr: null, ...tail(this), error: describeError(error) };
    },
  };
}
