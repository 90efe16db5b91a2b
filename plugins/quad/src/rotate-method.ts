// QuaRot (arXiv 2404.00456): the residual stream and what lies inside the blocks in Hadamard bases, activations rounded.
import { defineMethod } from '@lowbit/core';
import { rotationCost } from './cost.js';
import { requireFullPrecision } from './fold/requirements.js';
import { checkModel } from './model-check.js';
import { type QuadOptions, type RotateOptions, rotateOptions } from './options.js';
import { transformModel } from './transform.js';

/** `quad` with no direction set apart. */
export const rotate = defineMethod({
  name: 'rotate',
  version: 1,
  description: 'Hadamard rotations and rounded activations (QuaRot, arXiv 2404.00456)',
  options: rotateOptions,
  check: requireFullPrecision,
  checkModel: (model, options) => checkModel(model, withoutOutliers(options)),
  readsCalibration: () => false,
  cost: (work) => rotationCost({ ...work, options: withoutOutliers(work.options) }),
  transform: (model, context) => transformModel(model, withoutOutliers(context.options), context),
});

function withoutOutliers(options: RotateOptions): QuadOptions {
  return { ...options, rank: 0, layout: 'expand', gram: 'pre', basis: 'svd', basisWindows: 1 };
}
