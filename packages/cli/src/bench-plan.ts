// From the options of a benchmark to its plan.
import { basename, resolve } from 'node:path';
import {
  type BenchPlan,
  evaluatorName,
  makePlan,
  modelEvaluatorNames,
  modelName,
  type PlanDraft,
  type PlanEngine,
  pinPlan,
  planFiles,
  presetNames,
  presetOf,
} from '@lowbit/bench';
import { LowbitError } from '@lowbit/core';
import type { HubOptions } from '@lowbit/hub';
import { requireDistinct, type TextArguments, textParts } from './arguments.js';
import { buildRecipe, draftRecipes } from './recipe.js';
import { type SuiteArguments, suiteSource } from './suite-arguments.js';
import { type TaskArguments, taskSource } from './task-arguments.js';

export interface PlanArguments extends SuiteArguments, TaskArguments, TextArguments {
  readonly preset?: string;
  readonly model?: readonly string[];
  readonly recipe?: readonly string[];
  readonly evaluators?: readonly string[];
  readonly seeds?: readonly number[];
  readonly calibrationWindows?: number;
  readonly windows?: number;
  readonly window?: number;
}

/** The preset with the parts that options replace, or what the options say alone. */
export async function planOf(options: PlanArguments, engine: PlanEngine, directory: string, hub?: HubOptions): Promise<BenchPlan> {
  const base = options.preset === undefined ? undefined : presetOf(options.preset);
  const recipes = await draftRecipes(options.recipe ?? [], directory);
  const models = options.model?.map((reference) => lasting(reference, directory)) ?? base?.models;
  if (!models || (recipes.length === 0 && !base)) {
    throw new LowbitError('BENCH_PLAN', `nothing to run; give --preset (${presetNames.join(', ')}), or --model and --recipe`);
  }
  requireDistinct('model', models.map(modelName));
  requireDistinct('recipe', ['dense', ...recipes.map(({ name }) => name)]);
  requireDistinct('seed', options.seeds?.map(String) ?? []);
  const { calibrationWindows, windows, window } = options;
  const { calibration, heldOut, ...rest } = base ?? presetOf('tiny');
  const sources = textParts(options, directory);
  const task = taskSource(options, directory);
  const evaluators = options.evaluators && [...new Set(options.evaluators.map((name) => evaluatorName(name, modelEvaluatorNames)))];
  const said: PlanDraft = {
    ...rest,
    models,
    recipes: recipes.length > 0 ? recipes : rest.recipes,
    task: task ?? rest.task,
    tasks: suiteSource(options, directory) ?? rest.tasks,
    evaluators: evaluators ?? [...rest.evaluators, ...(task && !rest.evaluators.includes('task') ? ['task' as const] : [])],
    seeds: options.seeds ?? rest.seeds,
    calibration: {
      ...calibration,
      source: sources.calibration ?? calibration.source,
      windows: calibrationWindows ?? calibration.windows,
      window: window ?? calibration.window,
    },
    heldOut: {
      ...heldOut,
      source: sources.heldOut ?? heldOut.source,
      windows: windows ?? heldOut.windows,
      window: window ?? heldOut.window,
    },
  };
  const draft = await pinPlan(said, hub);
  return makePlan({ ...draft, engine, ...(await planFiles(draft, directory)) }, (recipe) => buildRecipe(recipe, directory));
}

/** A reference that names the same model wherever the plan is run: '.' and '..' say nothing elsewhere. */
function lasting(reference: string, directory: string): string {
  return ['', '.', '..'].includes(basename(reference)) ? resolve(directory, reference) : reference;
}
