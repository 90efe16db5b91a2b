// What advice may be asked of, and what a model is taken apart into.
import { createReferenceBackend } from '@lowbit/backend-reference';
import type { Recipe, StepReference } from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { qat } from '@lowbit/qat';
import { rotate } from '@lowbit/quad';
import { rtn } from '@lowbit/rtn';
import { createToyModel } from '@lowbit/testkit';
import { describe, expect, it } from 'vitest';
import { checkAdvice } from '../src/advise/plan.js';
import type { Candidate } from '../src/advise/strategy.js';
import { partsOf } from '../src/advise/workbench.js';

const methods: Readonly<Record<string, () => Recipe[number]>> = { qat, rotate, rtn: () => rtn({ groupSize: 16 }) };
const buildRecipe = async (steps: readonly StepReference[]): Promise<Recipe> => steps.map(({ method }) => methods[method]());

describe('a plan', () => {
  const check = (method: string): Promise<void> => {
    const candidate: Candidate = { name: method, bits: 2, steps: [{ method }] };
    const tuner = { name: 'qat', steps: [{ method: 'qat' }] };
    return checkAdvice({ threshold: { metric: 'kl', value: 1 }, candidates: [candidate], tuner }, createToyModel(), buildRecipe);
  };

  it('may try what quantizes', () => expect(check('rtn')).resolves.toBeUndefined());

  it.each([
    ['qat', /^ADVISE_CANDIDATE: qat: trains, .*; give it as --qat, and here a method such as rtn, gptq or decoupleq$/],
    ['rotate', /^ADVISE_CANDIDATE: rotate: quantizes nothing; name a method that does, such as rtn, gptq or decoupleq$/],
  ])('may not try %s', (method, message) => expect(check(method)).rejects.toThrow(message));
});

it('parts of a model name the Linears that are quantized in them', async () => {
  const recipe = [rtn({ groupSize: 16, targets: ['**.0.**', '**.1.**.down_proj'] })];
  const { model } = await quantize({ model: createToyModel(), backend: createReferenceBackend(), recipe });
  const [first, ...others] = partsOf(model, 'block');
  expect(first).toMatchObject({ path: 'model.layers.0', targets: ['model.layers.0.**'] });
  const down = ['model.layers.1.mlp.down_proj'];
  expect(others).toEqual([{ path: 'model.layers.1', targets: down, linears: down, block: 1 }]);
  const alone = partsOf(model, 'linear');
  expect(alone).toHaveLength(8);
  for (const { path, targets, linears } of alone) expect([targets, linears]).toEqual([[path], [path]]);
  expect(alone.map(({ path }) => path)).toEqual([...first.linears, ...down]);
});
