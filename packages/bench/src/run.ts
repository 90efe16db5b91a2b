// The benchmark: models × recipes × seeds, each judged by every evaluator on the same held-out text.
import {
  type Backend,
  type Evaluator,
  type FinetuneTask,
  LowbitError,
  type Model,
  type Recipe,
  type RunEvent,
  type SampleRequest,
  type SampleText,
  type Score,
  throwIfAborted,
} from '@lowbit/core';
import { measureSize } from '@lowbit/eval';
import { aimsAtTask, checkRecipe, quantize } from '@lowbit/pipeline';
import { linearKinds } from '@lowbit/quant';
import { type EvaluatorName, evaluatorsOf, type Judged, readsText } from './evaluators.js';
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
  /** Called when a model, recipe and seed have all their rows; the next one waits for it. */
  readonly onCell?: ((outcome: CellOutcome) => void | Promise<void>) | undefined;
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
  /** Scores of any model on the benchmark's held-out text. */
  evaluate(evaluator: EvaluatorName, model: Model): Promise<readonly Score[]>;
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
  readonly evaluatorOf: EvaluatorOf;
  /** What recipes with a step for tasks are tuned for. */
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
    const evaluatorOf = await evaluatorsFor(model, opened?.task, options);
    const calibrations = new Map<string, CalibrationText>();
    for (const { recipe, seed } of cells) {
      const own: BenchRow[] = [];
      const logs: LogRecord[] = [];
      const cell: Cell = { resolved: model, recipe, seed, evaluatorOf, task: opened?.task, provenance, logs };
      const made = await runCell(cell, options, calibrations, (row) => {
        own.push(row);
        options.onRow?.(row);
      });
      rows.push(...own);
      left--;
      await options.onCell?.({ model: model.name, recipe: recipe.name, seed, rows: own, logs, ...made, left });
    }
  }
  return rows;
}

/** Evaluators over held-out text that does not depend on the seeds of the cells, so that their numbers can be compared. */
async function evaluatorsFor(
  { name, model, tokenizer, text }: ResolvedModel,
  task: FinetuneTask | undefined,
  options: BenchOptions,
): Promise<EvaluatorOf> {
  const { backend, heldOut, signal, onProgress } = options;
  if (!readsText(options.evaluators)) return evaluatorsOver(options.evaluators, { task });
  const progress = stageProgress(options, 'held-out text', name);
  const windows = await heldOutText(heldOut.source ?? text, heldOut, { model, tokenizer, backend, seed: 0, signal, progress });
  onProgress?.({ type: 'note', text: `${name}: judged on ${windows.description}, ${windows.scoredTokens} tokens scored` });
  return evaluatorsOver(options.evaluators, { windows, task });
}

/** An evaluator by name, always the same one: it may keep what it found out about the dense model. */
type EvaluatorOf = (name: EvaluatorName) => Evaluator;

/** Those of `names` are made at once, and so are their errors. */
function evaluatorsOver(names: readonly EvaluatorName[], judged: Judged): EvaluatorOf {
  const made = evaluatorsOf(names, judged);
  const known = new Map(names.map((name, i) => [name, made[i]]));
  return (name) => {
    const found = known.get(name) ?? evaluatorsOf([name], judged)[0];
    known.set(name, found);
    return found;
  };
}

/** Undefined for steps that read none. */
async function calibrationFor(
  { resolved, recipe, seed }: Cell,
  steps: Recipe,
  options: BenchOptions,
  known: Map<string, CalibrationText>,
): Promise<CalibrationText | undefined> {
  if (!needsData(steps)) return undefined;
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

/** The dense model after some steps. */
async function applySteps(
  { resolved, recipe, seed, task, logs }: Cell,
  steps: Recipe,
  calibration: CalibrationText | undefined,
  { backend, signal, onProgress }: BenchOptions,
): Promise<Model> {
  if (steps.length === 0) return resolved.model;
  const { model } = await quantize({
    model: resolved.model,
    backend,
    recipe: steps,
    calibration: calibration?.batches,
    task: steps.some(aimsAtTask) ? task : undefined,
    seed,
    kinds: linearKinds,
    nearest: nearestRounding(backend),
    onEvent: (event) => {
      if (event.type === 'log') logs.push({ path: event.path, record: event.record });
      onProgress?.({ type: 'run', recipe: recipe.name, event });
    },
    signal,
  });
  return model;
}

function subjectOf(cell: Cell, quantized: Model, options: BenchOptions, calibrations: Map<string, CalibrationText>): CellSubject {
  const { resolved, evaluatorOf } = cell;
  const { backend, signal } = options;
  const dense = resolved.model;
  return {
    dense,
    quantized,
    async quantize(steps) {
      if (steps.length > 0) checkRecipe(steps, dense);
      const calibration = await calibrationFor(cell, steps, options, calibrations);
      // The cell's logs are those of its own recipe.
      return applySteps({ ...cell, logs: [] }, steps, calibration, options);
    },
    // Without progress: who judges many models knows how many are left.
    evaluate: (name, model) => evaluatorOf(name).evaluate(model, { backend, reference: dense, signal }),
  };
}

/** Quantizes and judges; hands on a row a score. Returns the models, and what the quantized one wrote. */
async function runCell(
  cell: Cell,
  options: BenchOptions,
  calibrations: Map<string, CalibrationText>,
  onRow: (row: BenchRow) => void,
): Promise<Pick<CellOutcome, 'subject' | 'texts'>> {
  const { resolved, recipe, seed, evaluatorOf, task, provenance } = cell;
  const { backend, signal } = options;
  const summary = summarizeRecipe(recipe.recipe);
  const isTuned = task && recipe.recipe.some(aimsAtTask);
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
      ...(isTuned && { task: { description: task.description, hash: task.hash } }),
      calibration: calibration ? { description: calibration.batches.description, hash: calibration.batches.hash } : null,
      steps,
      ...provenance,
    };
    if ('error' in outcome) return { ...head, value: null, stderr: null, ...tail, error: describeError(outcome.error) };
    const { value, stderr, samples, higherIsBetter, parts, protocol, version } = outcome.score;
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
      ...(parts && { parts }),
      protocol,
    };
  };

  let model: Model;
  const evaluators = options.evaluators.map(evaluatorOf);
  try {
    // Calibration text may take minutes to write.
    if (recipe.recipe.length > 0) checkRecipe(recipe.recipe, resolved.model);
    calibration = await calibrationFor(cell, recipe.recipe, options, calibrations);
    const started = performance.now();
    model = await applySteps(cell, recipe.recipe, calibration, options);
    seconds = (performance.now() - started) / 1000;
    weightBits = measureSize(model, { reference: resolved.model }).bitsPerWeight;
  } catch (error) {
    rethrowAbort(error, signal);
    for (const evaluator of evaluators) onRow(rowOf(evaluator.name, { error }));
    return { subject: undefined, texts: [] };
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
  const subject = subjectOf(cell, model, options, calibrations);
  if (!options.samples) return { subject, texts: [] };
  try {
    return { subject, texts: await writeSamples(options.samples, { model, tokenizer: resolved.tokenizer, backend, seed, signal }) };
  } catch (error) {
    rethrowAbort(error, signal);
    onRow(rowOf('samples', { error }));
    return { subject, texts: [] };
  }
}

function stageProgress({ onProgress }: BenchOptions, stage: string, path: string): (done: number, total: number) => void {
  return (done, total) => onProgress?.({ type: 'stage', stage, path, done, total });
}

/** Being cancelled is no result of a cell. */
export function rethrowAbort(error: unknown, signal: AbortSignal | undefined): void {
  throwIfAborted(signal);
  if (error instanceof LowbitError && error.code === 'ABORTED') throw error;
}

export function describeError(error: unknown): { code: string; message: string } {
  if (error instanceof LowbitError) return { code: error.code, message: error.message };
  return { code: 'INTERNAL', message: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}
