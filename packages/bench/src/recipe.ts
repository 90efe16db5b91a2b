// Recipes as tables and rows speak of them.
import type { Recipe, Step } from '@lowbit/core';
import { type StepRecord, stepRecord } from '@lowbit/formats';

/** A recipe and what tables call it. */
export interface NamedRecipe {
  readonly name: string;
  readonly recipe: Recipe;
  /** Windows to calibrate on, where the amount is what is compared; as many as for the others otherwise. */
  readonly calibrationWindows?: number | undefined;
}

/** Whether some step looks at calibration data. */
export function needsData(recipe: Recipe): boolean {
  return recipe.some(({ method, options, overrides }) => {
    if (method.refineBlock) return true;
    const reads = method.transform !== undefined || method.finetune !== undefined;
    if (reads && (method.readsCalibration?.(options) ?? true)) return true;
    const { statistics = {} } = method;
    if (typeof statistics !== 'function') return Object.keys(statistics).length > 0;
    return [options, ...overrides.map((override) => override.options)].some((one) => Object.keys(statistics(one)).length > 0);
  });
}

/** What rows say about a recipe. */
export interface RecipeSummary {
  /** Methods in order, joined by '+'; 'dense' for none. */
  readonly method: string;
  readonly bits: number | null;
  readonly groupSize: number | null;
  readonly steps: readonly StepRecord[];
}

export function summarizeRecipe(recipe: Recipe): RecipeSummary {
  // What trains codes that are there has options for others, whose defaults say nothing; the bits of rounded inputs have no groups.
  const choosing = recipe.filter(({ method, options }) => method.quantizeLinear && isRecord(options) && 'groupSize' in options);
  const deciding = choosing.length > 0 ? choosing : recipe;
  return {
    method: recipe.map(({ method }) => method.name).join('+') || 'dense',
    bits: commonOption(deciding, 'bits'),
    groupSize: commonOption(deciding, 'groupSize'),
    steps: recipe.map(stepRecord),
  };
}

/** The number that all steps which have the option, overrides included, agree on. */
function commonOption(recipe: readonly Step[], name: string): number | null {
  const options = recipe.flatMap((step) => [step.options, ...step.overrides.map((override) => override.options)]);
  const values = new Set(options.flatMap((one) => (isRecord(one) && typeof one[name] === 'number' ? [one[name]] : [])));
  const [value] = values;
  return values.size === 1 ? value : null;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}
