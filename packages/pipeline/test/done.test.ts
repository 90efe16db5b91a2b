// A run that begins after steps that another run has done ends with the same bytes.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { defineMethod, type Model, type Recipe, read, type Tensor, tensorsOf } from '@lowbit/core';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { canBeginAfter, type QuantizeOptions, quantize } from '../src/index.js';
import { adapted } from './methods/adapt.js';
import { refined } from './methods/refine.js';
import { rotate } from './methods/rotate.js';
import { nearest, searched } from './methods/round.js';

const model = createToyModel({ seed: 4 });
const calibration = createToyTokens({ seed: 2 });

function run(recipe: Recipe, options: Partial<QuantizeOptions> = {}): ReturnType<typeof quantize> {
  return quantize({ model, backend: createReferenceBackend(), recipe, calibration, seed: 7, ...options });
}

async function bytesOf(of: Model): Promise<Map<string, ArrayLike<unknown>>> {
  const entries = [...tensorsOf(of)].map(async ([name, t]: [string, Tensor]) => [name, await read(t)] as const);
  return new Map(await Promise.all(entries));
}

const looking = defineMethod({ name: 'test-looks', version: 1, options: z.strictObject({}), finetune: async (given) => given });

describe('a run that begins after steps', () => {
  it.each([
    ['that quantize, before training', [searched({ bits: 2 })], [adapted({ rank: 2, steps: 3 })]],
    [
      'of some Linears, before others',
      [nearest({ bits: 2, targets: ['**.q_proj'] })],
      [refined({ steps: 2, targets: ['**', '!**.q_proj'] })],
    ],
    ['that train what was quantized', [nearest({ bits: 2 }), adapted({ rank: 2, steps: 2 })], [looking()]],
  ] as const)('%s, is the same to the last bit', async (_, first, others) => {
    const recipe: Recipe = [...first, ...others];
    const whole = await run(recipe);
    const begun = await run(first);
    expect(canBeginAfter(recipe, first.length)).toBe(true);
    const steps: number[] = [];
    const continued = await run(recipe, {
      done: { steps: first.length, model: begun.model },
      onEvent: (event) => event.type === 'step-start' && steps.push(event.step),
    });
    expect(steps).toEqual(others.map((_step, i) => first.length + i));
    expect(await bytesOf(continued.model)).toEqual(await bytesOf(whole.model));
    expect(continued.bitsPerWeight).toBe(whole.bitsPerWeight);
  });

  it.each([
    ['a transform', [rotate(), nearest()], 1],
    ['training of the dense model', [looking(), nearest()], 1],
    ['a transform of what is quantized', [nearest(), rotate(), looking()], 2],
    ['more steps than there are', [nearest()], 2],
    ['a part of a step', [nearest()], 0.5],
  ])('is refused after %s', async (_, recipe, steps) => {
    expect(canBeginAfter(recipe, steps)).toBe(false);
    await expect(run(recipe, { done: { steps, model } })).rejects.toMatchObject({ code: 'RECIPE_DONE' });
  });
});

it('draws of a step do not depend on the steps before it having run', async () => {
  const seen: number[] = [];
  const drawing = defineMethod({
    name: 'test-draws',
    version: 1,
    options: z.strictObject({}),
    async finetune(given, { rng }) {
      seen.push(rng.uniform(1)[0]);
      return given;
    },
  });
  const recipe = [nearest(), drawing()];
  const { model: rounded } = await run([nearest()]);
  await run(recipe);
  await run(recipe, { done: { steps: 1, model: rounded } });
  expect(seen).toHaveLength(2);
  expect(seen[0]).toBe(seen[1]);
});
