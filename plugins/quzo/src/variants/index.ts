// Published changes of the method: each replaces some of its functions.
import type { Hooks } from '../hooks.js';
import type { QuzoOptions } from '../options.js';
import { oneSidedEstimator } from './fzoo.js';
import { kernelEstimator } from './kerzoo.js';
import { lowRank } from './lozo.js';
import type { VariantName } from './names.js';
import { populationEstimator } from './qes.js';
import { belowThreshold } from './sparse-mezo.js';

/** What a variant replaces, given the options and what they make without it. */
export type Variant = (options: QuzoOptions, base: Hooks) => Partial<Hooks>;

export const variants: Readonly<Record<VariantName, Variant>> = {
  none: () => ({}),
  'sparse-mezo': () => ({ selector: belowThreshold() }),
  lozo: ({ lozoRank: rank, lozoInterval: interval }, { direction, estimator: { isRounded } }) => ({
    direction: lowRank({ rank, interval, isRounded }, direction),
  }),
  kerzoo: (_options, { estimator }) => ({ estimator: kernelEstimator(estimator) }),
  fzoo: (_options, { estimator }) => ({ estimator: oneSidedEstimator(estimator) }),
  qes: (_options, { estimator }) => ({ estimator: populationEstimator(estimator) }),
};
