// Runs an experiment of a method's package: its arms through the benchmark, or its computation.
import {
  type ArmOutcome,
  type Backend,
  createRng,
  type ExperimentModel,
  type ExperimentRow,
  LowbitError,
  throwIfAborted,
} from '@lowbit/core';
import type { HubOptions } from '@lowbit/hub';
import { describeError, rethrowAbort } from '../failure.js';
import { describeModel } from '../model-reference.js';
import { type BenchProgress, type CellOutcome, DENSE } from '../outcome.js';
import { hasFailed, isScore } from '../row.js';
import { runBenchmark } from '../run.js';
import { type ComputedPlan, type ExperimentPlan, isComputed, type RecipePlan } from './plan.js';
import { cellKey, type ExperimentCell, rowOf } from './rows.js';
import { studyContext } from './study.js';

export interface ExperimentOptions {
  readonly backend: Backend;
  /** Relative model directories are resolved from here. */
  readonly directory: string;
  /** How models and texts of the hub are opened. */
  readonly hub?: HubOptions | undefined;
  /** Rows of an earlier run of the same plan: their cells do not run again. */
  readonly known?: readonly ExperimentRow[] | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called with the rows of each cell as soon as it is done, or has failed, and with how many cells are still to run. */
  readonly onRows?: ((rows: readonly ExperimentRow[], left: number) => void) | undefined;
  readonly onProgress?: ((progress: BenchProgress) => void) | undefined;
}

/**
 * Runs what is not known yet and returns the new rows. The dense model has a row of its own. A cell that fails becomes a row with the field
 * `failure`, and the others go on.
 * @throws ABORTED when the signal is; MODEL_REFERENCE and other errors of models and held-out text, before the first cell of a model.
 */
export async function runExperiment(plan: ExperimentPlan, options: ExperimentOptions): Promise<ExperimentRow[]> {
  const rows: ExperimentRow[] = [];
  const add = (cell: ExperimentCell, fields: readonly ExperimentRow[], left: number): void => {
    const own = fields.map((one) => rowOf(cell, one));
    rows.push(...own);
    options.onRows?.(own, left);
  };
  const done = new Set(options.known?.map(cellKey));
  const isDone = (cell: ExperimentCell): boolean => done.has(cellKey(cell));
  await (isComputed(plan) ? compute(plan, options, isDone, add) : runArms(plan, options, isDone, add));
  return rows;
}

type IsDone = (cell: ExperimentCell) => boolean;
type Add = (cell: ExperimentCell, rows: readonly ExperimentRow[], left: number) => void;

async function compute(plan: ComputedPlan, options: ExperimentOptions, isDone: IsDone, add: Add): Promise<void> {
  const { name, seeds, experiment } = plan;
  const { backend, signal, onProgress } = options;
  const progress = (done: number, total: number): void => onProgress?.({ type: 'stage', stage: name, path: '', done, total });
  const work = seeds.filter((seed) => !isDone({ seed }));
  const models = work.length === 0 ? undefined : await modelsOf(plan, options);
  for (const [i, seed] of work.entries()) {
    throwIfAborted(signal);
    const context = { backend, rng: createRng(seed), models, signal, progress };
    const rows = await experiment.compute(context).catch((error: unknown) => {
      throwIfAborted(signal);
      return [{ failure: describeError(error).message }];
    });
    add({ seed }, rows, work.length - i - 1);
  }
}

/** Of the models that an experiment names itself, those that are installed. */
async function modelsOf(plan: ComputedPlan, { directory, hub, onProgress }: ExperimentOptions): Promise<ExperimentModel[] | undefined> {
  if (!plan.models) return undefined;
  const isAsked = plan.models !== plan.experiment.models;
  const models: ExperimentModel[] = [];
  for (const reference of plan.models) {
    try {
      models.push(await describeModel(reference, directory, hub));
    } catch (error) {
      if (isAsked || !(error instanceof LowbitError) || error.code !== 'MODEL_NOT_INSTALLED') throw error;
      onProgress?.({ type: 'note', text: `left out: ${error.message}` });
    }
  }
  return models;
}

async function runArms(plan: RecipePlan, options: ExperimentOptions, isDone: IsDone, add: Add): Promise<void> {
  const { backend, directory, hub, signal, onProgress } = options;
  const { models, arms, evaluators, seeds, calibration, heldOut } = plan;
  const { samples, task } = plan.experiment;
  const cellOf = ({ model, recipe, seed }: { model: string; recipe: string; seed: number }): ExperimentCell => ({
    model,
    arm: recipe,
    seed: recipe === DENSE ? null : seed,
  });
  await runBenchmark({
    ...{ backend, directory, hub, signal, onProgress, models, evaluators, seeds, calibration, heldOut, task, samples },
    recipes: arms,
    isDone: (cell) => isDone(cellOf(cell)),
    onCell: async (outcome) => add(cellOf(outcome), await rowsOfCell(plan, outcome, options), outcome.left),
  });
}

/** The experiment's own rows, with what every row has, and a row for each text. */
async function rowsOfCell(plan: RecipePlan, cell: CellOutcome, options: ExperimentOptions): Promise<ExperimentRow[]> {
  const { arms, experiment } = plan;
  const { model, recipe, seed, rows, logs, texts, subject } = cell;
  const arm = arms.find(({ name }) => name === recipe)?.arm;
  const scores = Object.fromEntries(rows.filter(isScore).map((row) => [row.evaluator, row.value]));
  const { bitsPerWeight, seconds } = rows[0];
  const failed = rows.find(hasFailed);
  if (failed) return [{ ...arm?.parameters, ...scores, bitsPerWeight, seconds, failure: failed.error.message }];
  const written = texts.map((text) => ({ ...arm?.parameters, ...text }));
  const makesRows = 'study' in experiment || experiment.rowsOf !== undefined;
  if (!arm || !subject || !makesRows) return [{ ...arm?.parameters, ...scores, bitsPerWeight, seconds }, ...written];
  const outcome: ArmOutcome = {
    ...{ arm, model, seed, scores, logs, seconds, bitsPerWeight: bitsPerWeight ?? 0 },
    ...(experiment.samples && { texts }),
  };
  try {
    const own =
      'study' in experiment ? await experiment.study(studyContext(plan, outcome, subject, options)) : (experiment.rowsOf?.(outcome) ?? []);
    return [...own.map((row) => ({ bitsPerWeight, seconds, ...row })), ...written];
  } catch (error) {
    rethrowAbort(error, options.signal);
    return [{ ...arm.parameters, ...scores, bitsPerWeight, seconds, failure: describeError(error).message }];
  }
}
