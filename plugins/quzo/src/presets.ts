// Named sets of defaults: one for each published way to train a low-bit model by forward passes.
import type { VariantName } from './variants/names.js';

/** What a preset decides. */
export interface Defaults {
  readonly parameters: 'codes' | 'scales' | 'adapters' | 'weights';
  readonly estimator: 'mezo' | 'rge1' | 'rge1-debiased' | 'rge2';
  readonly distribution: 'rademacher' | 'gaussian';
  readonly perturbBits: number;
  readonly epsilon: number;
  readonly rounding: 'error-feedback' | 'sr' | 'nearest';
  /** Where error feedback has what rounding left of earlier steps from. */
  readonly carry: 'float32' | '16-bit' | 'replay';
  readonly learningRate: number;
  readonly schedule: 'constant' | 'linear' | 'cosine';
  readonly queries: number;
  /** 0: none. */
  readonly clip: number;
  readonly batchWindows: number;
  readonly sparsity: number;
  readonly rank: number;
  readonly alpha: number;
}

type Preset = Defaults & { readonly variant?: VariantName };

const lattice: Defaults = {
  parameters: 'codes',
  estimator: 'rge1-debiased',
  distribution: 'rademacher',
  perturbBits: 8,
  epsilon: 1,
  rounding: 'error-feedback',
  carry: 'float32',
  learningRate: 100,
  schedule: 'linear',
  queries: 1,
  clip: 0,
  batchWindows: 8,
  sparsity: 0,
  rank: 4,
  alpha: 8,
};

/**
 * 'quzo-lattice-int8': codes of 8 bits, one code at a time. 'quzo-paper': two roundings of a direction of 4 bits on adapters, as published
 * (arXiv 2502.12346). 'qes-int4': the variant 'qes' on codes of 4 bits, with a short carry. 'qzo-int4': scales, clipped (QZO).
 * 'zo-lora-int4': adapters on frozen codes. 'mezo': dense weights (arXiv 2305.17333).
 */
export const presets = {
  'quzo-lattice-int8': lattice,
  'quzo-paper': {
    ...lattice,
    parameters: 'adapters',
    estimator: 'rge2',
    distribution: 'gaussian',
    perturbBits: 4,
    epsilon: 2e-3,
    rounding: 'sr',
    learningRate: 3e-5,
    rank: 8,
    alpha: 16,
  },
  'qes-int4': {
    ...lattice,
    variant: 'qes',
    estimator: 'rge1',
    distribution: 'gaussian',
    epsilon: 0.1,
    carry: '16-bit',
    learningRate: 0.1,
    queries: 16,
  },
  'qzo-int4': { ...lattice, parameters: 'scales', estimator: 'mezo', epsilon: 1e-3, learningRate: 1e-6, clip: 100 },
  'zo-lora-int4': { ...lattice, parameters: 'adapters', estimator: 'mezo', epsilon: 1e-2, learningRate: 1e-3, queries: 4 },
  mezo: {
    ...lattice,
    parameters: 'weights',
    estimator: 'mezo',
    distribution: 'gaussian',
    epsilon: 1e-3,
    learningRate: 1e-6,
    schedule: 'constant',
    batchWindows: 16,
  },
} satisfies Readonly<Record<string, Preset>>;

export type PresetName = keyof typeof presets;
