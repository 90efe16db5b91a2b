// QuaRot (arXiv 2404.00456): the residual stream and what lies inside the blocks in Hadamard bases, activations rounded.
import { defineMethod } from '@lowbit/core';
import { requireFullPrecision } from './fold/requirements.js';
import { rotateOptions } from './options.js';
import { transformModel } from './transform.js';

/** `quad` with no direction set apart. */
export const rotate = defineMethod({
  name: 'rotate',
  version: 1,
  description: 'Hadamard rotations and rounded activations (QuaRot, arXiv 2404.00456)',
  options: rotateOptions,
  check: requireFullPrecision,
  transform: (model, context) => {
    const without = { rank: 0, layout: 'expand', gram: 'pre', basis: 'svd', basisWindows: 1 } as const;
    return transformModel(model, { ...context.options, ...without }, context);
  },
});
