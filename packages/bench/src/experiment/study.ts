// What a study may do: the cell of an arm, with recipes by the names of methods and scores as plain numbers.
import { type ArmOutcome, type Backend, createRng, type StudyContext } from '@lowbit/core';
import type { BenchProgress, CellSubject } from '../outcome.js';
import type { RecipePlan } from './plan.js';

interface StudyOptions {
  readonly backend: Backend;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: BenchProgress) => void) | undefined;
}

export function studyContext(
  { name, buildRecipe }: RecipePlan,
  outcome: ArmOutcome,
  { dense, quantized, quantize, evaluate }: CellSubject,
  { backend, signal, onProgress }: StudyOptions,
): StudyContext {
  const path = `${outcome.model} ${outcome.arm.name}`;
  return {
    ...{ outcome, dense, quantized, backend, signal },
    rng: createRng(outcome.seed).at('study'),
    progress: (done, total) => onProgress?.({ type: 'stage', stage: name, path, done, total }),
    quantize: async (recipe) => quantize(await buildRecipe(recipe)),
    async scoresOf(model, text) {
      const scores = await evaluate('text', model, text);
      return Object.fromEntries(scores.map(({ evaluator, value }) => [evaluator, value]));
    },
    async layerErrors(model, text) {
      const [{ parts = {} }] = await evaluate('layer-error', model, text);
      return parts;
    },
  };
}
