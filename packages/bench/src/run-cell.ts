// One cell of a benchmark: a recipe applied to a model with a seed, and what every evaluator says about the outcome.
import { type Backend, type Evaluator, LowbitError, type Model, type Recipe, type SampleRequest } from '@lowbit/core';
import { measureSize } from '@lowbit/eval';
import { aimsAtTask, checkRecipe, quantize } from '@lowbit/pipeline';
import { linearKinds } from '@lowbit/quant';
import { activationBits } from './activation-bits.js';
import { rowsAbout } from './cell-rows.js';
import { type EvaluatorName, evaluatorsOf } from './evaluators.js';
import { describeError, rethrowAbort } from './failure.js';
import { firstWindows } from './first-windows.js';
import { nearestRounding } from './nearest-rounding.js';
import type { CellOutcome, CellSubject, LogRecord, RunHooks } from './outcome.js';
import { measurePeakMemory } from './peak-memory.js';
import { type PreparedModel, stageProgress } from './prepared-model.js';
import { type NamedRecipe, needsData } from './recipe.js';
import { type BenchRow, NOT_APPLICABLE, type Provenance } from './row.js';
import { writeSamples } from './samples.js';
import type { CalibrationText } from './texts.js';

/** One model, recipe and seed, and how it is judged. */
export interface CellWork {
  readonly prepared: PreparedModel;
  readonly recipe: NamedRecipe;
  readonly seed: number;
  readonly backend: Backend;
  readonly evaluators: readonly EvaluatorName[];
  /** Text that the model writes once it has been judged. */
  readonly samples: SampleRequest | undefined;
  readonly provenance: Provenance;
}

/** Quantizes and judges. What fails becomes a row with its error. @throws ABORTED when the signal is. */
export async function runCell(work: CellWork, hooks: RunHooks): Promise<Omit<CellOutcome, 'left'>> {
  const { prepared, recipe, seed, backend, evaluators } = work;
  const { resolved } = prepared;
  const { signal } = hooks;
  const rows: BenchRow[] = [];
  const logs: LogRecord[] = [];
  const judges = [...evaluators.map((name) => prepared.evaluatorOf(name)), ...prepared.suite];
  const about = rowsAbout(work, measurePeakMemory());
  const add = (row: BenchRow): void => {
    rows.push(row);
    hooks.onRow?.(row);
  };
  const outcome = (more: Pick<CellOutcome, 'subject' | 'texts'>): Omit<CellOutcome, 'left'> => ({
    ...{ model: resolved.name, recipe: recipe.name, seed, rows, logs },
    ...more,
  });

  let model: Model;
  try {
    // Calibration text may take minutes to write.
    if (recipe.recipe.length > 0) checkRecipe(recipe.recipe, resolved.model);
    about.calibration = await calibrationFor(work, recipe.recipe, hooks);
    const started = performance.now();
    model = await applySteps(work, recipe.recipe, about.calibration, hooks, logs);
    about.seconds = (performance.now() - started) / 1000;
    about.activationBits = activationBits(model);
    about.bitsPerWeight = measureSize(model, { reference: resolved.model }).bitsPerWeight;
  } catch (error) {
    rethrowAbort(error, signal);
    for (const { name } of judges) add(about.failure(name, error));
    return outcome({ subject: undefined, texts: [] });
  }
  const declined: [string, unknown][] = [];
  for (const evaluator of judges) {
    about.keepPeak();
    const started = performance.now();
    try {
      const progress = stageProgress(hooks.onProgress, evaluator.name, `${resolved.name} ${recipe.name}`);
      const scores = await evaluator.evaluate(model, { backend, reference: resolved.model, signal, progress });
      const evaluateSeconds = (performance.now() - started) / 1000;
      for (const score of scores) add(about.score(score, evaluateSeconds));
    } catch (error) {
      rethrowAbort(error, signal);
      if (isForOthers(error)) declined.push([evaluator.name, error]);
      else add(about.failure(evaluator.name, error));
    }
  }
  const isUnjudged = rows.length === 0;
  for (const [name, error] of declined) {
    const { message } = describeError(error);
    hooks.onProgress?.({ type: 'note', text: `${resolved.name} ${recipe.name}: without ${message}` });
    // A cell without a row would count as one that is still to run.
    if (isUnjudged) add(about.failure(name, new LowbitError(NOT_APPLICABLE, `${name}: has nothing to say of such a model: ${message}`)));
  }
  const subject = subjectOf(work, model, hooks);
  if (!work.samples) return outcome({ subject, texts: [] });
  try {
    const texts = await writeSamples(work.samples, { model, tokenizer: resolved.tokenizer, backend, seed, signal });
    return outcome({ subject, texts });
  } catch (error) {
    rethrowAbort(error, signal);
    add(about.failure('samples', error));
    return outcome({ subject, texts: [] });
  }
}

/** An evaluator that has nothing to say of such a model, as opposed to one that failed. */
function isForOthers(error: unknown): boolean {
  return error instanceof LowbitError && error.code === 'REFERENCE_MISMATCH';
}

/** Undefined for steps that read none. */
async function calibrationFor({ prepared, recipe, seed }: CellWork, steps: Recipe, hooks: RunHooks): Promise<CalibrationText | undefined> {
  return needsData(steps) ? prepared.calibration(recipe.calibrationWindows, seed, hooks) : undefined;
}

/** The dense model after some steps; what they log goes into `logs`. */
async function applySteps(
  { prepared, recipe, seed, backend }: CellWork,
  steps: Recipe,
  calibration: CalibrationText | undefined,
  { signal, onProgress }: RunHooks,
  logs: LogRecord[],
): Promise<Model> {
  const { resolved, task } = prepared;
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

/** Windows of a calibration that models are judged on: as many as studies hold out. */
const CALIBRATION_WINDOWS = 24;

function subjectOf(work: CellWork, quantized: Model, hooks: RunHooks): CellSubject {
  const { prepared, recipe, seed, backend } = work;
  const dense = prepared.resolved.model;
  // What an evaluator has found out about the dense model is kept with it.
  const onCalibration = new Map<EvaluatorName, Evaluator>();
  const calibrationEvaluator = async (name: EvaluatorName): Promise<Evaluator> => {
    const known = onCalibration.get(name);
    if (known) return known;
    const windows = await firstWindows(await prepared.calibration(recipe.calibrationWindows, seed, hooks), CALIBRATION_WINDOWS);
    const [made] = evaluatorsOf([name], { windows });
    onCalibration.set(name, made);
    return made;
  };
  return {
    dense,
    quantized,
    async quantize(steps) {
      if (steps.length > 0) checkRecipe(steps, dense);
      // The cell's logs are those of its own recipe.
      return applySteps(work, steps, await calibrationFor(work, steps, hooks), hooks, []);
    },
    // Without progress: who judges many models knows how many are left.
    async evaluate(name, model, text = 'held-out') {
      const evaluator = text === 'held-out' ? prepared.evaluatorOf(name) : await calibrationEvaluator(name);
      return evaluator.evaluate(model, { backend, reference: dense, signal: hooks.signal });
    },
  };
}
