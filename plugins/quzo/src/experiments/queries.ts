// Many directions a step, or many steps.
import type { RecipeExperiment, StepReference } from '@lowbit/core';
import { logarithmic, means, panels } from '@lowbit/core/experiments';
import type { QuzoInput } from '../options.js';
import { arm, bases, NEEDS_TEXT, PASSES, protocol, quzoStep, rowsOf, tiny } from './arms.js';

const counts = [1, 2, 4, 8, 16];

/** What is trained, on 4-bit codes for adapters and on 8-bit ones for codes. */
const settings: Readonly<
  Record<string, { readonly base: StepReference; readonly options: QuzoInput & { readonly learningRate: number } }>
> = {
  'ZO-LoRA, INT4': { base: bases.INT4, options: tiny.adapters },
  'codes, INT8': { base: bases.INT8, options: tiny.codes.INT8 },
};

/** The noise of the estimate falls as 1/n, which a rate can rise with; √n is between that and leaving it. */
const scalings: Readonly<Record<string, (queries: number) => number>> = {
  'rate as it is': () => 1,
  'rate · √n': Math.sqrt,
  'rate · n': (queries) => queries,
};

const arms = Object.entries(settings).flatMap(([training, { base, options }]) =>
  counts.flatMap((queries) =>
    Object.entries(scalings)
      .filter(([, factor]) => queries > 1 || factor(2) === 1)
      .map(([scaling, factor]) =>
        arm([base, quzoStep({ ...options, queries, learningRate: factor(queries) * options.learningRate })], {
          training,
          scaling,
          queries,
        }),
      ),
  ),
);

export const queries: RecipeExperiment = {
  name: 'queries',
  title: 'Directions a step, for equally many forward passes',
  description:
    `1 to 16 directions a step, ${PASSES} forward passes in all, so that more directions mean fewer steps. The variance of the estimate falls as 1/n; the rate stays, grows with √n, or with n. ` +
    `Look for n directions at n times the rate to be worth as much as one, and less at large n, where batches are no longer new. ${NEEDS_TEXT}`,
  source: 'arXiv 2305.17333, appendix on n-SPSA; arXiv 2502.12346 has n = 1',
  ...protocol,
  models: ['tiny'],
  arms,
  rowsOf,
  table: { rows: ['model', 'training', 'scaling'], columns: 'queries', values: ['loss-gap'] },
  figure: panels(
    means('y', 'line', {
      x: { field: 'queries', type: 'quantitative', title: 'directions a step', scale: logarithmic },
      y: { field: 'loss-gap', title: 'added loss, nats per token', scale: { zero: false } },
      color: { field: 'scaling', title: null, sort: Object.keys(scalings) },
    }),
    { row: { field: 'training' }, independent: ['y'] },
  ),
};
