// What a benchmark runs at a time, what that gives, and what it tells while it runs.
import type { Model, Recipe, RunEvent, SampleText, Score, StudyText } from '@lowbit/core';
import type { EvaluatorName } from './evaluators.js';
import type { BenchRow } from './row.js';

/** What a benchmark runs one at a time. */
export interface BenchCell {
  /** As rows call it. */
  readonly model: string;
  /** Name of the recipe, or 'dense': judged once, as seed 0, whichever seeds the others have. */
  readonly recipe: string;
  readonly seed: number;
}

/** Name of the recipe without steps, which every benchmark judges. */
export const DENSE = 'dense';

/** A name of a cell that is equal for equal cells; a row has its cell's. */
export function cellName({ model, recipe, seed }: BenchCell): string {
  return JSON.stringify([model, recipe, seed]);
}

/** What a cell gave. */
export interface CellOutcome extends BenchCell {
  readonly rows: readonly BenchRow[];
  /** What the methods logged, in order. */
  readonly logs: readonly LogRecord[];
  /** None where no samples are asked for, or the cell failed. */
  readonly texts: readonly SampleText[];
  /** Undefined where quantizing failed. */
  readonly subject: CellSubject | undefined;
  /** Cells still to run. */
  readonly left: number;
}

/** The models of a cell, and how others are made and judged as they were. */
export interface CellSubject {
  readonly dense: Model;
  /** The dense one itself for a recipe without steps. */
  readonly quantized: Model;
  /** Applies another recipe to the dense model, with the cell's calibration text and seed. */
  quantize(recipe: Recipe): Promise<Model>;
  /** Scores of any model on the benchmark's held-out text, or on windows of the cell's calibration text. */
  evaluate(evaluator: EvaluatorName, model: Model, text?: StudyText): Promise<readonly Score[]>;
}

/** One record of a method about a Linear, a block or the model. */
export type LogRecord = Pick<Extract<RunEvent, { type: 'log' }>, 'path' | 'record'>;

/** What a benchmark is doing: an event of the runner, or a stage of its own. */
export type BenchProgress =
  | { readonly type: 'note'; readonly text: string }
  | { readonly type: 'stage'; readonly stage: string; readonly path: string; readonly done: number; readonly total: number }
  | { readonly type: 'run'; readonly recipe: string; readonly event: RunEvent };

/** Who looks on while cells run. */
export interface RunHooks {
  readonly signal?: AbortSignal | undefined;
  /** Called with each row as soon as it is known. */
  readonly onRow?: ((row: BenchRow) => void) | undefined;
  /** Called when a cell has all its rows; the next one waits for it. */
  readonly onCell?: ((outcome: CellOutcome) => void | Promise<void>) | undefined;
  readonly onProgress?: ((progress: BenchProgress) => void) | undefined;
}
