// Names and defaults of the variants, apart from what they do: the options need these, and variants need the options.
import type { Defaults } from '../presets.js';

/** What a variant changes of a preset's defaults: what its paper does, except for step sizes. */
export const variantDefaults = {
  none: {},
  'sparse-mezo': { sparsity: 0.75 },
  lozo: { distribution: 'gaussian' },
  kerzoo: {},
  fzoo: { distribution: 'rademacher', queries: 8 },
  qes: { estimator: 'rge1', distribution: 'gaussian', rounding: 'error-feedback', queries: 16 },
} satisfies Readonly<Record<string, Partial<Defaults>>>;

export type VariantName = keyof typeof variantDefaults;

export const variantNames = Object.keys(variantDefaults) as [VariantName, ...VariantName[]];
