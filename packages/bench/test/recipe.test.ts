// Which recipes need calibration data, told from their methods and options.
import { defineMethod, type Recipe, type Step } from '@lowbit/core';
import { decoupleq } from '@lowbit/decoupleq';
import { gptq } from '@lowbit/gptq';
import { lowRankCorrection } from '@lowbit/int2-lrec';
import { checkRecipe } from '@lowbit/pipeline';
import { qat, qatBlocks } from '@lowbit/qat';
import { activations, compensate, quad, rotate, tune } from '@lowbit/quad';
import { rtn } from '@lowbit/rtn';
import { createToyModel } from '@lowbit/testkit';
import { describe, expect, it } from 'vitest';
import { needsData, summarizeRecipe } from '../src/recipe.js';

const silent = defineMethod({ ...rotate.definition, readsCalibration: undefined });
const untold = defineMethod({ ...tune.definition, readsCalibration: () => false });

it.each<readonly [string, Step, boolean]>([
  ['rounding', rtn(), false],
  ['statistics', gptq(), true],
  ['statistics that depend on options: none', lowRankCorrection({ form: 'svd' }), false],
  ['statistics that depend on options: some', lowRankCorrection({ form: 'l2qer' }), true],
  ['statistics that an override asks for', lowRankCorrection({ form: 'svd', overrides: { '**': { form: 'l2qer' } } }), true],
  ['refinement', compensate(), true],
  ['refinement after statistics', decoupleq(), true],
  ['rounded inputs', activations(), false],
  ['a rotation', rotate(), false],
  ['a transform that says nothing of it', silent(), true],
  ['directions of most energy', quad(), true],
  ['no directions', quad({ rank: 0 }), false],
  ['random directions', quad({ basis: 'random' }), false],
  ['training', tune(), true],
  ['training that says that it reads none', untold(), false],
])('%s', (_what, step, expected) => {
  expect(needsData([step])).toBe(expected);
  expect(needsData([rtn(), step])).toBe(expected);
});

it.each<readonly [string, readonly Step[], number | null, number | null]>([
  ['of one step', [rtn({ bits: 3, groupSize: 32 })], 3, 32],
  ['of codes that another step trains', [decoupleq({ bits: 2, groupSize: 32 }), qat()], 2, 32],
  ['of rounded inputs beside codes', [activations({ bits: 4 }), rtn({ bits: 3, groupSize: -1 })], 3, -1],
  ['of training from dense weights', [qat({ bits: 2, groupSize: 64 })], 2, 64],
  ['of layers that differ', [gptq({ bits: 2, overrides: { '**.down_proj': { bits: 4 } }, groupSize: 64 })], null, 64],
])('bits and groups %s', (_what, recipe, bits, groupSize) => {
  expect(summarizeRecipe(recipe)).toMatchObject({ bits, groupSize });
});

describe('before any work, a recipe of trained codes', () => {
  const format = { bits: 2, groupSize: 16 } as const;
  const [attention, mlp] = [{ targets: ['**.self_attn.*'] }, { targets: ['**.mlp.*'] }];
  const model = createToyModel();

  it.each<readonly [string, Recipe]>([
    ['qat, gptq', [qat(format), gptq(format)]],
    ['qat, rtn', [qat(format), rtn(format)]],
    ['qat-blocks, decoupleq', [qatBlocks(format), decoupleq(format)]],
    ['rtn, qat, gptq', [rtn(format), qat(), gptq(format)]],
    ['qat of the MLPs, rtn of all', [qat({ ...format, ...mlp }), rtn(format)]],
  ])('is refused where another quantizer follows: %s', (_, recipe) => {
    expect(() => checkRecipe(recipe, model)).toThrow(/LINEAR_NOT_DENSE: .*is already 'affine'; narrow this step's targets/);
  });

  it.each<readonly [string, Recipe]>([
    ['qat', [qat(format)]],
    ['rtn, qat', [rtn(format), qat()]],
    ['decoupleq, qat', [decoupleq(format), qat()]],
    ['rtn, qat-blocks, qat', [rtn(format), qatBlocks(), qat()]],
    ['qat-blocks, qat of scales', [qatBlocks(format), qat({ train: 'scales' })]],
    ['rtn, a correction, qat', [rtn(format), lowRankCorrection({ rank: 2 }), qat({ latent: 'dequantized' })]],
    ['qat, a correction', [qat(format), lowRankCorrection({ rank: 2 })]],
    ['gptq of the attention, qat of the MLPs', [gptq({ ...format, ...attention }), qat({ ...format, ...mlp })]],
    ['qat of the MLPs, gptq of the attention', [qat({ ...format, ...mlp }), gptq({ ...format, ...attention })]],
    ['a rotation, qat', [rotate(), qat(format)]],
  ])('is taken otherwise: %s', (_, recipe) => {
    expect(() => checkRecipe(recipe, model)).not.toThrow();
  });
});
