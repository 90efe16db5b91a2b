// A benchmark as plain data: it can be written to a file, sent to another process, and compared with another.
import { createHash } from 'node:crypto';
import type { Recipe, SampleRequest, Step, StepReference } from '@lowbit/core';
import { stepRecord } from '@lowbit/formats';
import { modelName } from './model-reference.js';
import { type BenchCell, DENSE } from './outcome.js';
import type { Protocol } from './prepared-model.js';

/** A step as it is written, with the version of its method: equal ones give equal weights. */
export interface BenchStep extends StepReference {
  readonly version: number;
}

/** A recipe as plain data. */
export interface BenchRecipe {
  readonly name: string;
  /** Of a module: what it exported, to be told apart from what it exports another time. */
  readonly steps: readonly BenchStep[];
  /** A module that exports the recipe; its path as it was given. Undefined where the steps say it all. */
  readonly module?: string | undefined;
  /** Windows to calibrate on, where the amount is what is compared; as many as for the others otherwise. */
  readonly calibrationWindows?: number | undefined;
}

/** What a benchmark runs, as plain data. */
export interface BenchPlan extends Protocol {
  /** References as `resolveModel` takes them; `modelName` tells them apart. */
  readonly models: readonly string[];
  /** The dense model is judged as well, without being named. */
  readonly recipes: readonly BenchRecipe[];
  readonly seeds: readonly number[];
  /** Text that every model writes once it has been judged. */
  readonly samples?: SampleRequest | undefined;
  /** What the cells are to be computed with; without it, with whatever they are given. */
  readonly engine?: PlanEngine | undefined;
  /** sha256 of texts and examples by path, of records by task and split: those that the cells are to read. */
  readonly files?: Readonly<Record<string, string>> | undefined;
  /** sha256 over the files of models by reference: of those that are directories. */
  readonly weights?: Readonly<Record<string, string>> | undefined;
}

/** Backends give equal bytes for an equal number of threads. */
export interface PlanEngine {
  /** A device's name: 'onnxruntime:cpu'. */
  readonly backend: string;
  readonly threads: number;
}

/** A plan without versions of methods: what a person or a preset says. */
export type PlanDraft = Omit<BenchPlan, 'recipes'> & {
  readonly recipes: readonly (Omit<BenchRecipe, 'steps'> & { readonly steps?: readonly StepReference[] | undefined })[];
};

/** What a plan has for its cells. */
type Cells = Pick<BenchPlan, 'models' | 'seeds'> & { readonly recipes: readonly { readonly name: string }[] };

/** Everything that a plan runs, by model, recipe and seed. */
export function cellsOf({ models, recipes, seeds }: Cells): BenchCell[] {
  return models
    .map(modelName)
    .flatMap((model) => [
      { model, recipe: DENSE, seed: 0 },
      ...recipes.flatMap(({ name: recipe }) => seeds.map((seed) => ({ model, recipe, seed }))),
    ]);
}

/** sha256 over everything that decides the numbers of a cell, as far as the plan says it. */
export function cellKey({ models, recipes, weights, seeds: _, ...protocol }: BenchPlan, { model, recipe, seed }: BenchCell): string {
  const reference = models.find((one) => modelName(one) === model);
  const own = reference === undefined ? undefined : weights?.[reference];
  return digestOf({ ...protocol, model: reference, weights: own, recipe: recipes.find(({ name }) => name === recipe) ?? recipe, seed });
}

/** sha256 over the whole plan. */
export function planDigest(plan: BenchPlan): string {
  return digestOf(plan);
}

/**
 * Fills in what a draft leaves out, so that the plan is the same when it is read back from JSON.
 * @throws what `buildRecipe` throws: methods that are unknown, options that they do not take.
 */
export async function makePlan(
  draft: PlanDraft,
  buildRecipe: (recipe: PlanDraft['recipes'][number]) => Promise<Recipe>,
): Promise<BenchPlan> {
  const recipes: BenchRecipe[] = [];
  for (const recipe of draft.recipes) {
    const built = await buildRecipe(recipe);
    const steps = built.map((step, i): BenchStep => {
      const { method, options } = recipe.steps?.[i] ?? referenceTo(step);
      return { method, version: step.method.version, options };
    });
    recipes.push({ ...recipe, steps });
  }
  return plain({ ...draft, recipes });
}

/** A step that a module made, by its parsed options. */
function referenceTo(step: Step): StepReference {
  const { method, options, targets, overrides } = stepRecord(step);
  return { method, options: { ...(options as object), targets, overrides } };
}

/** As JSON reads it back: without undefined fields, and with a method among options by its name. */
function plain(plan: BenchPlan): BenchPlan {
  return JSON.parse(JSON.stringify(plan, (_, value: unknown) => (isStep(value) ? stepRecord(value) : value))) as BenchPlan;
}

function isStep(value: unknown): value is Step {
  if (typeof value !== 'object' || value === null) return false;
  return 'method' in value && typeof value.method === 'object' && 'options' in value && 'targets' in value && 'overrides' in value;
}

/** Fields in the order of their names count as equal. */
function digestOf(value: unknown): string {
  const sorted = (_: string, one: unknown): unknown =>
    typeof one === 'object' && one !== null && !Array.isArray(one)
      ? Object.fromEntries(Object.entries(one).sort(([a], [b]) => (a < b ? -1 : 1)))
      : one;
  return createHash('sha256').update(JSON.stringify(value, sorted)).digest('hex');
}
