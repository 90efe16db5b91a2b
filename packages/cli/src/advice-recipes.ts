// The recipes that `lowbit advise` tries: inline texts, with the bits and groups that were asked for where a step leaves them out.
import type { AdviceRecipe, Candidate } from '@lowbit/bench';
import { formatInlineRecipe, parseInlineRecipe, type StepText } from './inline-recipe.js';
import { findMethod } from './methods.js';
import { describeOptions } from './option-help.js';

/**
 * Each recipe at each width, in the order of the texts; one that says its own bits comes once.
 * @throws RECIPE_SYNTAX, METHOD_UNKNOWN
 */
export async function adviceCandidates(
  texts: readonly string[],
  { bits, groupSize }: { readonly bits: readonly number[]; readonly groupSize: number },
  directory: string,
): Promise<Candidate[]> {
  const found = new Map<string, Candidate>();
  for (const width of bits) {
    for (const text of texts) {
      const steps = await Promise.all(parseInlineRecipe(text, '--ptq').map((step) => filled(step, { bits: width, groupSize }, directory)));
      const name = formatInlineRecipe(steps);
      if (!found.has(name)) found.set(name, { name, bits: bitsOf(steps) ?? width, steps });
    }
  }
  return [...found.values()];
}

function bitsOf(steps: readonly StepText[]): number | undefined {
  return steps.map(({ options }) => options['bits']).find((bits) => typeof bits === 'number');
}

/** @throws RECIPE_SYNTAX */
export function adviceTuner(text: string): AdviceRecipe {
  return { name: text, steps: parseInlineRecipe(text, '--qat') };
}

/** The step with those of the settings that its method takes and it does not say itself. */
async function filled(step: StepText, settings: Readonly<Record<string, number>>, directory: string): Promise<StepText> {
  const { definition } = await findMethod(step.method, directory);
  const known = describeOptions(definition)?.map(({ name }) => name) ?? [];
  const added = Object.entries(settings).filter(([name]) => known.includes(name));
  return { method: step.method, options: { ...Object.fromEntries(added), ...step.options } };
}
