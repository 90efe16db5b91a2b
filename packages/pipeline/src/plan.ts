// What a recipe will do to a model, resolved and checked before any weight is read.
import {
  DEFAULT_TARGETS,
  type LinearShape,
  LowbitError,
  type Model,
  quantizablePart,
  type Recipe,
  type Statistic,
  type Step,
} from '@lowbit/core';
import { compileGlob } from './globs.js';

/** A step with its globs resolved against a model. */
export interface PlannedStep {
  readonly index: number;
  readonly step: Step;
  /** Options of every targeted Linear by path, overrides applied, in the order of computation. */
  readonly options: ReadonlyMap<string, unknown>;
}

/** Paths listed in an error message before it says how many more there are. */
const LISTED = 8;

/** Every Linear of every block in the order of computation. @throws MODEL_GROUPS when a block's table leaves one out. */
export function linearShapes(model: Model): LinearShape[] {
  return model.blocks.flatMap((block) => {
    const names = block.groups.flatMap((group) => group.linears);
    const missing = Object.keys(block.linears).filter((name) => !names.includes(name));
    if (missing.length > 0) {
      throw new LowbitError('MODEL_GROUPS', `${block.path}: no linear group holds ${missing.join(', ')}; complete the family's table`);
    }
    return names.map((name) => {
      const linear = block.linears[name];
      const { kind, inFeatures, outFeatures } = quantizablePart(linear).linear;
      return { path: `${block.path}.${name}`, kind, inFeatures, outFeatures };
    });
  });
}

/**
 * Resolves a step's targets and overrides against the Linears of a model.
 * @throws TARGETS_EMPTY, OVERRIDES_EMPTY naming the glob that matches nothing and some paths that exist.
 */
export function planStep(step: Step, index: number, paths: readonly string[]): PlannedStep {
  const { name } = step.method;
  const targets = new Set(resolveTargets(step, paths));
  const options = new Map([...targets].map((path): [string, unknown] => [path, step.options]));
  for (const override of step.overrides) {
    const matched = paths.filter(compileGlob(override.glob));
    const changed = matched.filter((path) => targets.has(path));
    if (changed.length === 0) {
      const why =
        matched.length > 0
          ? `matches only Linears that the step does not target, such as ${matched[0]}; widen the step's targets, or correct the override`
          : `matches no Linear; ${existing(paths)}; correct the pattern, or leave the override out`;
      throw new LowbitError('OVERRIDES_EMPTY', `${name}: override '${override.glob}' ${why}`);
    }
    for (const path of changed) options.set(path, override.options);
  }
  return { index, step, options };
}

function resolveTargets({ method, targets }: Step, paths: readonly string[]): string[] {
  const globs = targets.map((glob) => {
    // '!(a|b)' is a glob of its own, not the negation of '(a|b)'.
    const isNegated = glob.startsWith('!') && !glob.startsWith('!(');
    const matches = compileGlob(isNegated ? glob.slice(1) : glob);
    if (!paths.some(matches))
      throw new LowbitError(
        'TARGETS_EMPTY',
        `${method.name}: target '${glob}' matches no Linear; ${existing(paths)}; correct the pattern, ** is any part of a path`,
      );
    return { isNegated, matches };
  });
  const [kept, dropped] = [globs.filter(({ isNegated }) => !isNegated), globs.filter(({ isNegated }) => isNegated)];
  const chosen = paths.filter(
    (path) => (kept.length === 0 || kept.some(({ matches }) => matches(path))) && !dropped.some(({ matches }) => matches(path)),
  );
  if (targets.length === 0 || chosen.length === 0) {
    throw new LowbitError(
      'TARGETS_EMPTY',
      `${method.name}: targets [${targets.join(', ')}] leave no Linear; ${existing(paths)}; widen them`,
    );
  }
  return chosen;
}

function existing(paths: readonly string[]): string {
  return paths.length === 0 ? 'the model has none' : `the model has ${listed(paths, ', ')}`;
}

function listed(items: readonly string[], separator: string): string {
  const more = items.length - LISTED;
  return [...items.slice(0, LISTED), ...(more > 0 ? [`… (${more} more)`] : [])].join(separator);
}

/**
 * Throws what is wrong with a recipe for a model: targets and overrides that match nothing, layers that a step cannot handle. Reads
 * no weight, so it can be called before any data is prepared; `quantize` begins with it.
 * @throws RECIPE_EMPTY, RECIPE_STEP, TARGETS_UNUSED, TARGETS_EMPTY, OVERRIDES_EMPTY, GLOB_INVALID, and what `method.check` and
 *   `method.checkModel` throw.
 */
export function checkRecipe(recipe: Recipe, model: Model): void {
  planRecipe(recipe, model);
}

/**
 * Resolves a whole recipe and runs `method.check` on every Linear whose kind and shape are known by then: as the model has them, or
 * as the `makes` of an earlier step says. What an earlier step may have changed otherwise is checked when its step begins, and so is the
 * model as a whole after the first step.
 */
export function planRecipe(recipe: Recipe, model: Model): PlannedStep[] {
  if (recipe.length === 0)
    throw new LowbitError('RECIPE_EMPTY', 'the recipe has no steps; pass at least one, for example [rtn({ bits: 4 })]');
  const shapes = linearShapes(model);
  const paths = shapes.map(({ path }) => path);
  const planned = recipe.map((step, index) => planStep(requireStep(step, index), index, paths));
  const known = new Map(shapes.map((shape) => [shape.path, shape]));
  for (const step of planned) {
    checkStep(step, [...known.values()]);
    if (step.index === 0) step.step.method.checkModel?.(model, step.step.options);
    const { method } = step.step;
    for (const path of method.transform ? paths : step.options.keys()) {
      const before = known.get(path);
      const kind = before && kindAfter(method, before.kind);
      if (before && kind !== undefined) known.set(path, { ...before, kind });
      else known.delete(path);
    }
  }
  return planned;
}

/** Kind of a targeted Linear after a step; undefined where only running it tells. */
function kindAfter({ transform, quantizeLinear, makes }: Step['method'], kind: string): string | undefined {
  if (transform || makes === undefined) return undefined;
  return quantizeLinear || kind === 'dense' ? makes : kind;
}

function requireStep(step: Step, index: number): Step {
  if (typeof step === 'function') {
    throw new LowbitError('RECIPE_STEP', `step ${index} of the recipe is a method; call it with its options: method({ … })`);
  }
  const { method } = (step ?? {}) as Partial<Step>;
  if (typeof method !== 'object') {
    throw new LowbitError(
      'RECIPE_STEP',
      `step ${index} of the recipe is no step; a method called with its options makes one: method({ … })`,
    );
  }
  if (!(method.transform || method.quantizeLinear || method.refineBlock || method.finetune)) {
    throw new LowbitError(
      'RECIPE_STEP',
      `step ${index}: method '${method.name}' has none of transform, quantizeLinear, refineBlock, finetune`,
    );
  }
  requireUsedSettings(step);
  return step;
}

/** A method that only transforms sees the whole model: targets and overrides would be passed over in silence. */
function requireUsedSettings({ method, targets, overrides }: Step): void {
  if (method.quantizeLinear || method.refineBlock || method.finetune) return;
  const hasTargets = targets.some((glob) => !DEFAULT_TARGETS.includes(glob));
  if (!hasTargets && overrides.length === 0) return;
  const given = [...(hasTargets ? ['targets'] : []), ...(overrides.length > 0 ? ['overrides'] : [])].join(' and ');
  throw new LowbitError('TARGETS_UNUSED', `${method.name}: changes the model as a whole and reads no ${given}; leave them out`);
}

/** Runs the method's own check on the targeted Linears among `shapes` and throws what it found, gathered. */
export function checkStep({ step, options }: PlannedStep, shapes: readonly LinearShape[]): void {
  const failures: LowbitError[] = [];
  for (const shape of shapes) {
    if (!options.has(shape.path)) continue;
    try {
      step.method.check?.(shape, options.get(shape.path));
    } catch (error) {
      if (!(error instanceof LowbitError)) throw error;
      failures.push(error);
    }
  }
  if (failures.length === 0) return;
  const code = failures.every((failure) => failure.code === failures[0].code) ? failures[0].code : 'RECIPE_CHECK';
  const messages = failures.map(({ code, message }) => message.replace(`${code}: `, ''));
  throw new LowbitError(
    code,
    `${step.method.name}: ${failures.length} of ${options.size} targeted Linears do not fit: ${listed(messages, '; ')}`,
    { cause: failures[0] },
  );
}

/** Statistics that the method folds for a Linear with these options. */
export function statisticsOf({ step }: PlannedStep, options: unknown): Readonly<Record<string, Statistic>> {
  const { statistics = {} } = step.method;
  return typeof statistics === 'function' ? statistics(options) : statistics;
}
