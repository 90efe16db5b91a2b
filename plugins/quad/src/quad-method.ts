// QUAD (arXiv 2503.19353): the directions of most energy stay in full precision, and the rest of the residual stream is rotated.
import { defineMethod } from '@lowbit/core';
import { rotationCost } from './cost.js';
import { requireFullPrecision } from './fold/requirements.js';
import { checkModel, readsActivations } from './model-check.js';
import { quadOptions } from './options.js';
import { transformModel } from './transform.js';

/** Weights are left to the quantizer after it in the recipe; outlier columns stay as they are. */
export const quad = defineMethod({
  name: 'quad',
  version: 2,
  description: 'Outlier directions in full precision, the rest rotated, activations rounded (arXiv 2503.19353)',
  options: quadOptions,
  check: requireFullPrecision,
  checkModel,
  readsCalibration: readsActivations,
  cost: rotationCost,
  transform: (model, context) => transformModel(model, context.options, context),
});
