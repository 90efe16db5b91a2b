// What a plan must fulfil before any data is prepared.
import { LowbitError, type Model, type Recipe, type StepReference } from '@lowbit/core';
import { checkRecipe } from '@lowbit/pipeline';
import type { AdvicePlan } from './strategy.js';

/**
 * @throws ADVISE_CANDIDATE for a candidate that quantizes nothing before it trains or transforms the model, ADVISE_TUNER for a tuner that
 *   does not train or has targets of its own, and what reading and checking the recipes throws.
 */
export async function checkAdvice(
  { candidates, tuner }: AdvicePlan,
  model: Model,
  buildRecipe: (steps: readonly StepReference[]) => Promise<Recipe>,
): Promise<void> {
  const training = await buildRecipe(tuner.steps);
  if (!training.every(({ method }) => method.refineBlock || method.finetune)) {
    throw new LowbitError(
      'ADVISE_TUNER',
      `${tuner.name}: has a step that trains nothing; name methods that train a quantized model, such as qat`,
    );
  }
  if (tuner.steps.some(({ options }) => options?.['targets'] !== undefined)) {
    throw new LowbitError('ADVISE_TUNER', `${tuner.name}: what to train is what is to be found out; leave its targets out`);
  }
  for (const { name, steps } of candidates) {
    const recipe = await buildRecipe(steps);
    if (!recipe.some(({ method }) => method.quantizeLinear)) {
      const trains = recipe.some(({ method }) => method.refineBlock || method.finetune);
      const fault = trains
        ? 'trains, which is tried after quantizing; give it as --qat, and here a method'
        : 'quantizes nothing; name a method that does,';
      throw new LowbitError('ADVISE_CANDIDATE', `${name}: ${fault} such as rtn, gptq or decoupleq`);
    }
    if (recipe.some(({ method }) => method.transform)) {
      const reason = 'transforms the model, and a part of it put into the dense model would not fit';
      throw new LowbitError('ADVISE_CANDIDATE', `${name}: ${reason}; leave that step out, or compare such recipes with lowbit bench`);
    }
    checkRecipe([...recipe, ...training], model);
  }
}
