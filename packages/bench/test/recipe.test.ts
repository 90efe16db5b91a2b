// Which recipes need calibration data, told from their methods and options.
import { defineMethod, type Step } from '@lowbit/core';
import { decoupleq } from '@lowbit/decoupleq';
import { gptq } from '@lowbit/gptq';
import { lowRankCorrection } from '@lowbit/int2-lrec';
import { qat } from '@lowbit/qat';
import { activations, compensate, quad, rotate, tune } from '@lowbit/quad';
import { rtn } from '@lowbit/rtn';
import { expect, it } from 'vitest';
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
