// The benchmark: models × recipes × seeds, each judged by every evaluator on the same held-out text.
import {
  type Backend,
  type Evaluator,
  type FinetuneTask,
  LowbitError,
  type Model,
  type RunEvent,
  type SampleRequest,
  type SampleText,
  type Score,
  throwIfAborted,
} from '@lowbit/core';
import { measureSize } from '@lowbit/eval';
import { aimsAtTask, checkRecipe, quantize } from '@lowbit/pipeline';
import { linearKinds } from '@lowbit/quant';
import { type EvaluatorName, evaluatorsOf, readsText } from './evaluators.js';
import { type ResolvedModel, resolveModel } from './model-reference.js';
import { nearestRounding } from './nearest-rounding.js';
import { measurePeakMemory } from './peak-memory.js';
import { provenanceOf } from './provenance.js';
import { type NamedRecipe, needsData, summarizeRecipe } from './recipe.js';
import type { BenchRow, Provenance } from './row.js';
import { writeSamples } from './samples.js';
import { openTask, type TaskSource } from './tasks.js';
import { type CalibrationText, calibrationText, type HeldOutSize, heldOutText, type TextSize, type TextSource } from './texts.js';

export interface BenchOptions {
  readonly backend: Backend;
  /** References as `resolveModel` takes them. */
  readonly models: readonly string[];
  /** The dense model is judged as well, without being named. */
  readonly recipes: readonly NamedRecipe[];
  readonly evaluators: readonly EvaluatorName[];
  readonly seeds: readonly number[];
  /** Text of the kind each model was trained on by default. */
  readonly calibration: TextSize & { readonly source?: TextSource | undefined };
  /** The same windows for all recipes and seeds of a model. */
  readonly heldOut: HeldOutSize & { readonly source?: TextSource | undefined };
  /** What recipes with a step for tasks are tuned for, and what the evaluator 'task' judges by. */
  readonly task?: TaskSource | undefined;
  /** Text that every model writes once it has been judged. */
  readonly samples?: SampleRequest | undefined;
  /** Relative model directories are resolved from here. */
  readonly directory: string;
  readonly signal?: AbortSignal | undefined;
  /** Cells that need not run, because what they give is known. */
  readonly isDone?: ((cell: BenchCell) => boolean) | undefined;
  /** Called with each row as soon as it is known. */
  readonly onRow?: ((row: BenchRow) => void) | undefined;
  /** Called when a model, recipe and seed have all their rows. */
  readonly onCell?: ((outcome: CellOutcome) => void) | undefined;
  readonly onProgress?: ((progress: BenchProgress) => void) | undefined;
}

/** What a benchmark runs one at a time. */
export interface BenchCell {
  readonly model: string;
  /** Name of the recipe, or 'dense' (judged once, with the first of the seeds). */
  readonly recipe: string;
  readonly seed: number;
}

/** What a cell gave. */
export interface CellOutcome extends BenchCell {
  readonly rows: readonly BenchRow[];
  /** What the methods logged, in order. */
  readonly logs: readonly LogRecord[];
  /** None where no samples are asked for, or the cell failed. */
  readonly texts: readonly SampleText[];
  /** Cells still to run. */
  readonly left: number;
}

/** One record of a method about a Linear, a block or the model. */
export type LogRecord = Pick<Extract<RunEvent, { type: 'log' }>, 'path' | 'record'>;

/** What a benchmark is doing: an event of the runner, or a stage of its own. */
export type BenchProgress =
  | { readonly type: 'note'; readonly text: string }
  | { readonly type: 'stage'; readonly stage: string; readonly path: string; readonly done: number; readonly total: number }
  | { readonly type: 'run'; readonly recipe: string; readonly event: RunEvent };

/** One model, recipe and seed: all that its rows have in common. */
interface Cell {
  readonly resolved: ResolvedModel;
  readonly recipe: NamedRecipe;
  readonly seed: number;
  readonly evaluators: readonly Evaluator[];
  /** Undefined for a recipe that is not tuned for one. */
  readonly task: FinetuneTask | undefined;
  readonly provenance: Provenance;
  /** Filled as the methods log. */
  readonly logs: LogRecord[];
}

/**
 * Runs every cell in turn and returns all rows. A cell that fails becomes a row with its error, and the others go on.
 * @throws ABORTED when the signal is; MODEL_REFERENCE and other errors of models and held-out text, before the first cell of a model.
 */
export async function runBenchmark(options: BenchOptions): Promise<BenchRow[]> {
  const rows: BenchRow[] = [];
  const provenance = provenanceOf(options.backend);
  const resolved: ResolvedModel[] = [];
  for (const reference of options.models) resolved.push(await resolveModel(reference, options.directory));
  const dense: NamedRecipe = { name: 'dense', recipe: [] };
  const work = resolved.map((model) => {
    const seeded = options.recipes.flatMap((recipe) => options.seeds.map((seed) => ({ recipe, seed })));
    const cells = [{ recipe: dense, seed: options.seeds[0] }, ...seeded];
    return { model, cells: cells.filter(({ recipe, seed }) => !options.isDone?.({ model: model.name, recipe: recipe.name, seed })) };
  });
  let left = work.reduce((sum, { cells }) => sum + cells.length, 0);
  for (const { model, cells } of work) {
    if (cells.length === 0) continue;
    const opened = options.task && (await openTask(options.task, model));
    if (opened) options.onProgress?.({ type: 'note', text: `${model.name}: task: ${opened.report}` });
    const evaluators = await evaluatorsFor(model, opened?.task, options);
    const calibrations = new Map<string, CalibrationText>();
    for (const { recipe, seed } of cells) {
      const own: BenchRow[] = [];
      const logs: LogRecord[] = [];
      const task = recipe.recipe.some(aimsAtTask) ? opened?.task : undefined;
      const texts = await runCell({ resolved: model, recipe, seed, evaluators, task, provenance, logs }, options, calibrations, (row) => {
        own.push(row);
        options.onRow?.(row);
      });
      rows.push(...own);
      left--;
      options.onCell?.({ model: model.name, recipe: recipe.name, seed, rows: own, logs, texts, left });
    }
  }
  return rows;
}

/** Evaluators over held-out text that does not depend on the seeds of the cells, so that their numbers can be compared. */
async function evaluatorsFor(
  { name, model, tokenizer, text }: ResolvedModel,
  task: FinetuneTask | undefined,
  options: BenchOptions,
): Promise<Evaluator[]> {
  const { backend, heldOut, signal, onProgress } = options;
  if (!readsText(options.evaluators)) return evaluatorsOf(options.evaluators, { task });
  const progress = stageProgress(options, 'held-out text', name);
  const windows = await heldOutText(heldOut.source ?? text, heldOut, { model, tokenizer, backend, seed: 0, signal, progress });
  onProgress?.({ type: 'note', text: `${name}: judged on ${windows.description}, ${windows.scoredTokens} tokens scored` });
  return evaluatorsOf(options.evaluators, { windows, task });
}

async function calibrationFor(
  { resolved, recipe, seed }: Cell,
  options: BenchOptions,
  known: Map<string, CalibrationText>,
): Promise<CalibrationText> {
  const { backend, signal, onProgress } = options;
  const calibration = { ...options.calibration, windows: recipe.calibrationWindows ?? options.calibration.windows };
  const key = `${seed} ${calibration.windows}`;
  const found = known.get(key);
  if (found) return found;
  const progress = stageProgress(options, 'calibration text', resolved.name);
  const { model, tokenizer, text } = resolved;
  const made = await calibrationText(calibration.source ?? text, calibration, { model, tokenizer, backend, seed, signal, progress });
  known.set(key, made);
  onProgress?.({ type: 'note', text: `${resolved.name}: calibrated on ${made.report}` });
  return made;
}

/** Quantizes and judges; hands on a row a score. Returns what the model wrote. */
async function runCell(
  cell: Cell,
  options: BenchOptions,
  calibrations: Map<string, CalibrationText>,
  onRow: (row: BenchRow) => void,
): Promise<SampleText[]> {
  const { resolved, recipe, seed, evaluators, task, provenance, logs } = cell;
  const { backend, signal, onProgress } = options;
  const summary = summarizeRecipe(recipe.recipe);
  const hasData = needsData(recipe.recipe);
  const peakMemory = measurePeakMemory();
  let calibration: CalibrationText | undefined;
  let seconds = 0;
  let weightBits: number | null = null;

  /** The fields of a row in the order in which people read them. */
  const rowOf = (evaluator: string, outcome: { score: Score; evaluateSeconds: number } | { error: unknown }): BenchRow => {
    const { method, bits, groupSize, steps } = summary;
    const head = { model: resolved.name, recipe: recipe.name, method, bits, groupSize, bitsPerWeight: weightBits, evaluator };
    const tail = {
      seconds,
      peakRssMiB: peakMemory(),
      seed,
      ...(task && { task: { description: task.description, hash: task.hash } }),
      calibration: calibration ? { description: calibration.batches.description, hash: calibration.batches.hash } : null,
      steps,
      ...provenance,
    };
    if ('error' in outcome) return { ...head, value: null, stderr: null, ...tail, error: describeError(outcome.error) };
    const { value, stderr, samples, higherIsBetter, protocol, version } = outcome.score;
    const { evaluateSeconds } = outcome;
    return {
      ...head,
      bitsPerWeight: weightBits ?? 0,
      value,
      stderr,
      ...tail,
      samples,
      higherIsBetter,
      evaluatorVersion: version,
      evaluateSeconds,
      protocol,
    };
  };

  let model: Model;
  try {
    // Calibration text may take minutes to write.
    if (recipe.recipe.length > 0) checkRecipe(recipe.recipe, resolved.model);
    if (hasData) calibration = await calibrationFor(cell, options, calibrations);
    const started = performance.now();
    model =
      recipe.recipe.length === 0
        ? resolved.model
        : (
            await quantize({
              model: resolved.model,
              backend,
              recipe: recipe.recipe,
              calibration: calibration?.batches,
              task,
              seed,
              kinds: linearKinds,
              nearest: nearestRounding(backend),
              onEvent: (event) => {
                if (event.type === 'log') logs.push({ path: event.path, record: event.record });
                onProgress?.({ type: 'run', recipe: recipe.name, event });
              },
              signal,
            })
          ).model;
    seconds = (performance.now() - started) / 1000;
    weightBits = measureSize(model, { reference: resolved.model }).bitsPerWeight;
  } catch (error) {
    rethrowAbort(error, signal);
    for (const evaluator of evaluators) onRow(rowOf(evaluator.name, { error }));
    return [];
  }
  for (const evaluator of evaluators) {
    const started = performance.now();
    try {
      const progress = stageProgress(options, evaluator.name, `${resolved.name} ${recipe.name}`);
      const scores = await evaluator.evaluate(model, { backend, reference: resolved.model, signal, progress });
      const evaluateSeconds = (performance.now() - started) / 1000;
      for (const score of scores) onRow(rowOf(score.evaluator, { score, evaluateSeconds }));
    } catch (error) {
      rethrowAbort(error, signal);
      onRow(rowOf(evaluator.name, { error }));
    }
  }
  if (!options.samples) return [];
  try {
    return await writeSamples(options.samples, { model, tokenizer: resolved.tokenizer, backend, seed, signal });
  } catch (error) {
    rethrowAbort(error, signal);
    onRow(rowOf('samples', { error }));
    return [];
  }
}

function stageProgress({ onProgress }: BenchOptions, stage: string, path: string): (done: number, total: number) => void {
  return (done, total) => onProgress?.({ type: 'stage', stage, path, done, total });
}

/** Being cancelled is no result of a cell. */
function rethrowAbort(error: unknown, signal: AbortSignal | undefined): void {
  throwIfAborted(signal);
  if (error instanceof LowbitError && error.code === 'ABORTED') throw error;
}

export function describeError(error: unknown): { code: string; message: string } {
  if (error instanceof LowbitError) return { code: error.code, message: error.message };
  return { code: 'INTERNAL', message: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}
