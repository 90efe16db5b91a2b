// Published changes of the method beside the method, on codes of 8 bits.
import type { RecipeExperiment } from '@lowbit/core';
import { logarithmic, means, panels } from '@lowbit/core/experiments';
import type { QuzoInput } from '../options.js';
import { arm, bases, NEEDS_TEXT, PASSES, protocol, quzoStep, rowsOf, tiny } from './arms.js';

const base = tiny.codes.INT8;

/** Length of the gradient by 8-bit codes of tiny, about: rates of variants whose slopes have no units are smaller by it. */
const LENGTH = 0.004;

interface Tried extends QuzoInput {
  /** At the factor 1. */
  readonly learningRate: number;
  /** Losses a direction, and one more a step. */
  readonly losses?: readonly [number, number];
}

/** By name, with rates that equal those of the plain method as far as the formulas say. */
const tried: Readonly<Record<string, Tried>> = {
  none: base,
  'four directions': { ...base, queries: 4, learningRate: 4 * base.learningRate },
  'normal directions': { ...base, distribution: 'gaussian' },
  'sparse-mezo': { ...base, variant: 'sparse-mezo' },
  lozo: { ...base, variant: 'lozo' },
  kerzoo: { ...base, variant: 'kerzoo' },
  fzoo: { ...base, variant: 'fzoo', queries: 8, learningRate: 8 * base.learningRate * LENGTH, losses: [1, 1] },
  qes: { ...base, variant: 'qes', distribution: 'gaussian', queries: 8, learningRate: 8 * base.learningRate * LENGTH },
};

const factors = [0.3, 1, 3];

function optionsOf({ losses: [each, more] = [2, 0], queries = 1, ...options }: Tried, factor: number): QuzoInput {
  const steps = Math.floor(PASSES / (each * queries + more));
  return { ...options, queries, steps, learningRate: factor * options.learningRate };
}

export const variants: RecipeExperiment = {
  name: 'variants',
  title: 'Variants of zeroth-order training on INT8 codes',
  description:
    `Codes of 8 bits with error feedback, ${PASSES} forward passes: as it is; with four directions a step; with normal directions; sparse MeZO (small weights alone), LOZO (directions of low rank), KerZOO (radii weighted by a kernel), FZOO (one loss a direction, steps in units of the losses' deviation), quantized evolution strategies (standardized losses). ` +
    `Each with a third of, once and three times a rate that equals the plain one as far as formulas say; compare the best of each. ${NEEDS_TEXT}`,
  source:
    'arXiv 2402.15751 (sparse MeZO), 2410.07698 (LOZO), 2505.18886 (KerZOO), 2506.09034 (FZOO), and the code of quantized evolution strategies',
  ...protocol,
  models: ['tiny'],
  arms: Object.entries(tried).flatMap(([variant, options]) =>
    factors.map((rate) => arm([bases.INT8, quzoStep(optionsOf(options, rate))], { variant, rate })),
  ),
  rowsOf,
  table: { rows: ['model', 'variant'], columns: 'rate', values: ['loss-gap'] },
  figure: panels(
    means('y', 'line', {
      x: { field: 'rate', type: 'quantitative', title: 'learning rate, relative', scale: logarithmic },
      y: { field: 'loss-gap', title: 'added loss, nats per token', scale: { zero: false } },
      color: { field: 'variant', title: 'variant', sort: Object.keys(tried) },
    }),
    { independent: ['y'] },
  ),
};
