// What studies are given, with a loss that is known everywhere: a bowl around the dense weights.
import { createReferenceBackend } from '@lowbit/backend-reference';
import {
  type Backend,
  createRng,
  type ExperimentArm,
  type ExperimentRow,
  type Model,
  type StepReference,
  type StudyContext,
} from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { rtn } from '@lowbit/rtn';
import { createToyModel } from '@lowbit/testkit';
import { distanceOf, pointOf } from '../src/experiments/weight-space.js';

/** Added loss and divergence at distance 1, nats a token. */
export const STEEPNESS = 3;

export interface StudySetting {
  readonly context: StudyContext;
  readonly dense: Model;
  /** Every recipe that the study asked for. */
  readonly recipes: readonly (readonly StepReference[])[];
  /** How often a model was judged. */
  readonly judged: () => number;
  /** What it was judged on, each time. */
  readonly texts: readonly string[];
}

/** Rounded to nearest whatever the method; what a step of qat trains comes out as it was. */
async function apply(dense: Model, backend: Backend, recipe: readonly StepReference[]): Promise<Model> {
  const [start, training] = recipe;
  if (!start) return dense;
  const { bits, groupSize } = start.options as { bits: number; groupSize: number };
  // Ranges that are searched, for methods that are to end elsewhere than rounding.
  const clip = start.method === 'gptq' ? 'mse' : 'minmax';
  const trained = (training?.options?.['targets'] ?? []) as readonly string[];
  const targets = ['**', ...trained.map((path) => `!${path}`)];
  if (trained.includes('**')) return dense;
  return (await quantize({ model: dense, backend, recipe: [rtn({ bits, groupSize, clip, targets })] })).model;
}

/** A study of one arm. What it quantizes is real, but for training; how it judges is not. */
export async function studySetting(arm: ExperimentArm): Promise<StudySetting> {
  const backend = createReferenceBackend();
  const dense = createToyModel({ seed: 3, innerSize: 64 });
  const origin = await pointOf(dense, backend);
  const recipes: (readonly StepReference[])[] = [];
  let judged = 0;
  const texts: string[] = [];
  const scoresOf = async (model: Model, text = 'held-out'): Promise<Readonly<Record<string, number>>> => {
    judged++;
    texts.push(text);
    const value = STEEPNESS * distanceOf(origin, await pointOf(model, backend)) ** 2;
    return { perplexity: Math.exp(2 + value), kl: value, 'top1-agreement': 1, 'loss-gap': value };
  };
  const quantized = await apply(dense, backend, arm.recipe);
  const outcome = { arm, model: 'toy', seed: 0, scores: await scoresOf(quantized), logs: [], bitsPerWeight: 2.5, seconds: 1 };
  judged = 0;
  texts.length = 0;
  const context: StudyContext = {
    ...{ outcome, dense, quantized, backend, scoresOf },
    rng: createRng(1),
    progress: () => undefined,
    quantize: (recipe) => {
      recipes.push(recipe);
      return apply(dense, backend, recipe);
    },
    // The error of a Linear as if its inputs were white.
    async layerErrors(model, text = 'held-out') {
      texts.push(text);
      const point = await pointOf(model, backend);
      return Object.fromEntries([...origin].map(([path, weight]) => [path, distanceOf(new Map([[path, weight]]), point) ** 2]));
    },
  };
  return { context, dense, recipes, texts, judged: () => judged };
}

/** As the runner makes them. */
export function inCell(rows: readonly ExperimentRow[], arm: ExperimentArm): ExperimentRow[] {
  return rows.map((row) => ({ ...row, model: 'toy', arm: arm.name, seed: 0 }));
}
