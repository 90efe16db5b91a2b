// What one run of an experiment comes to: its arms as recipes, and its protocol with what a person replaced of it.
import {
  type ComputedExperiment,
  type Experiment,
  type ExperimentArm,
  type ExperimentRow,
  type ExperimentValue,
  LowbitError,
  type Recipe,
  type RecipeExperiment,
  type StepReference,
  type StudyExperiment,
} from '@lowbit/core';
import { type EvaluatorName, evaluatorName, modelEvaluatorNames } from '../evaluators.js';
import { DENSE } from '../outcome.js';
import type { NamedRecipe } from '../recipe.js';
import type { TextSource } from '../texts.js';

/** What a person may replace in an experiment; what is left out is as the experiment says. */
export interface ExperimentChanges {
  readonly models?: readonly string[] | undefined;
  readonly seeds?: readonly number[] | undefined;
  /** Names of arms, with `*` for any text; all arms by default. */
  readonly arms?: readonly string[] | undefined;
  /** Does not replace the windows of arms that say how many they take. */
  readonly calibrationWindows?: number | undefined;
  readonly heldOutWindows?: number | undefined;
  /** Tokens in each window of either kind. */
  readonly window?: number | undefined;
  /** Text to calibrate on; of the kind each model was trained on by default. */
  readonly calibrationSource?: TextSource | undefined;
  readonly heldOutSource?: TextSource | undefined;
}

interface Text {
  readonly windows: number;
  readonly window?: number | undefined;
  readonly source?: TextSource | undefined;
}

interface PlanBase {
  /** 'decoupleq/table'. */
  readonly name: string;
  readonly seeds: readonly number[];
}

type BuildRecipe = (steps: readonly StepReference[]) => Promise<Recipe>;

/** A run of arms. */
export interface RecipePlan extends PlanBase {
  readonly experiment: RecipeExperiment | StudyExperiment;
  readonly arms: readonly (NamedRecipe & { readonly arm: ExperimentArm })[];
  readonly models: readonly string[];
  readonly evaluators: readonly EvaluatorName[];
  readonly calibration: Text;
  readonly heldOut: Text;
  /** Finds methods by name. */
  readonly buildRecipe: BuildRecipe;
}

/** A run of a computation. */
export interface ComputedPlan extends PlanBase {
  readonly experiment: ComputedExperiment;
  /** Undefined where it is computed without. */
  readonly models?: readonly string[] | undefined;
}

export type ExperimentPlan = RecipePlan | ComputedPlan;

export function isComputed(plan: ExperimentPlan): plan is ComputedPlan {
  return 'compute' in plan.experiment;
}

const DEFAULT_MODELS = ['tiny', 'stories15M'];
const DEFAULT_SEEDS = [0, 1, 2];
const DEFAULT_CALIBRATION_WINDOWS = 64;
const DEFAULT_HELD_OUT_WINDOWS = 40;

/**
 * Resolves an experiment to what will run. `buildRecipe` finds methods by name.
 * @throws EXPERIMENT_ARMS when no arm has a wanted name, or two have one; EXPERIMENT_OPTIONS for what a computed experiment has none of;
 * EVALUATOR_UNKNOWN, and what `buildRecipe` throws.
 */
export async function planExperiment(
  name: string,
  experiment: Experiment,
  buildRecipe: BuildRecipe,
  changes: ExperimentChanges = {},
): Promise<ExperimentPlan> {
  if ('compute' in experiment) return planComputed(name, experiment, changes);
  const arms: RecipePlan['arms'][number][] = [];
  for (const arm of selectArms(name, experiment.arms, changes.arms)) {
    arms.push({ name: arm.name, arm, recipe: await buildRecipe(arm.recipe), calibrationWindows: arm.calibrationWindows });
  }
  const { window, calibrationSource, heldOutSource } = changes;
  const calibrationWindows = changes.calibrationWindows ?? experiment.calibrationWindows ?? DEFAULT_CALIBRATION_WINDOWS;
  const heldOutWindows = changes.heldOutWindows ?? experiment.heldOutWindows ?? DEFAULT_HELD_OUT_WINDOWS;
  return {
    name,
    experiment,
    arms,
    models: distinct('model', name, changes.models ?? experiment.models ?? DEFAULT_MODELS),
    evaluators: evaluatorsOf(experiment).map((one) => evaluatorName(one, modelEvaluatorNames)),
    seeds: distinct('seed', name, changes.seeds ?? experiment.seeds ?? DEFAULT_SEEDS),
    calibration: { windows: calibrationWindows, window, source: calibrationSource },
    heldOut: { windows: heldOutWindows, window, source: heldOutSource },
    buildRecipe,
  };
}

/** A study judges models of its own on the same text. */
function evaluatorsOf(experiment: RecipeExperiment | StudyExperiment): readonly string[] {
  const { evaluators = ['text'] } = experiment;
  return 'study' in experiment && !evaluators.includes('text') ? ['text', ...evaluators] : evaluators;
}

function planComputed(name: string, experiment: ComputedExperiment, changes: ExperimentChanges): ComputedPlan {
  const { seeds, models, ...others } = changes;
  const unfitting = experiment.models ? others : { models, ...others };
  const [unfit] = Object.entries(unfitting).find(([, value]) => value !== undefined) ?? [];
  if (unfit !== undefined) {
    const takes = experiment.models ? 'seeds and models' : 'seeds';
    throw new LowbitError('EXPERIMENT_OPTIONS', `${name}: is computed and takes only ${takes}; leave out ${unfit}`);
  }
  const named = models && distinct('model', name, models);
  return { name, experiment, seeds: distinct('seed', name, seeds ?? [0]), models: named ?? experiment.models };
}

/** Rows by model, arm and seed in the experiment's order, whichever of several runs each comes from. */
export function inOrder({ experiment }: ExperimentPlan, rows: readonly ExperimentRow[]): ExperimentRow[] {
  const [named, arms] = 'compute' in experiment ? [[], []] : [experiment.models ?? DEFAULT_MODELS, experiment.arms];
  const models = [...new Set<ExperimentValue | undefined>([...named, ...rows.map(({ model }) => model)])];
  const names: (ExperimentValue | undefined)[] = [DENSE, ...arms.map(({ name }) => name)];
  return rows.toSorted(
    (a, b) =>
      models.indexOf(a['model']) - models.indexOf(b['model']) ||
      names.indexOf(a['arm']) - names.indexOf(b['arm']) ||
      Number(a['seed']) - Number(b['seed']),
  );
}

/** Arms whose names fit a pattern, in the experiment's order. */
function selectArms(name: string, arms: readonly ExperimentArm[], patterns: readonly string[] | undefined): readonly ExperimentArm[] {
  const names = distinct(
    'arm',
    name,
    arms.map((arm) => arm.name),
  );
  // The dense model's rows go by that name.
  if (names.includes(DENSE)) throw new LowbitError('EXPERIMENT_ARMS', `${name}: an arm is called 'dense'; give it another name`);
  if (!patterns) return arms;
  for (const pattern of patterns) {
    if (!names.some(fits(pattern))) {
      throw new LowbitError(
        'EXPERIMENT_ARMS',
        `${name}: no arm fits '${pattern}'; the arms are ${names.map((one) => `'${one}'`).join(', ')}`,
      );
    }
  }
  return arms.filter((arm) => patterns.some((pattern) => fits(pattern)(arm.name)));
}

/** `*` stands for any text; nothing else is special, as names of arms have dots, commas and slashes in them. */
function fits(pattern: string): (name: string) => boolean {
  const parts = pattern.split('*').map((part) => part.replace(/[\\^$.|?+()[\]{}]/g, '\\$&'));
  const expression = new RegExp(`^${parts.join('.*')}$`, 's');
  return (name) => expression.test(name);
}

/** Rows are told apart by these names. */
function distinct<T extends string | number>(what: string, name: string, values: readonly T[]): readonly T[] {
  const twice = values.find((value, i) => values.indexOf(value) < i);
  if (twice === undefined) return values;
  throw new LowbitError('EXPERIMENT_ARMS', `${name}: two ${what}s are '${twice}' and could not be told apart in the rows; leave one out`);
}
