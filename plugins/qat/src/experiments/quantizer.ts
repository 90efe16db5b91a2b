// Fake quantizers: what is learned of a grid while the weights are.
import type { ExperimentRow, RecipeExperiment } from '@lowbit/core';
import { claimOn } from '@lowbit/core/experiments';
import type { QatInput } from '../options.js';
import { arm, protocol, qatStep } from './arms.js';
import { ascending } from './claims.js';
import { gapDots } from './figure.js';

const MIN_MAX = 'min-max, recomputed';
const SHRUNK = 'min-max, shrunk (LWC)';
const SYMMETRIC = 'LSQ, symmetric';
const INTEGER = 'LSQ+, integer zero';
const FREE = 'LSQ+, free offset';
const SEQ = 'SEQ';

/** By the name of the arm, in the order of the figure. */
const quantizers: Readonly<Record<string, QatInput>> = {
  [MIN_MAX]: { quantizer: 'minmax', zero: 'integer' },
  [SHRUNK]: { quantizer: 'lwc', zero: 'integer' },
  [SYMMETRIC]: { quantizer: 'learned', zero: 'symmetric' },
  [INTEGER]: { quantizer: 'learned', zero: 'integer' },
  [FREE]: { quantizer: 'learned', zero: 'free' },
  [SEQ]: { quantizer: 'seq' },
};

const granularities = { 'per channel': -1, 'groups of 32': 32 } as const;

const bits = 2;

const arms = Object.entries(granularities).flatMap(([groups, groupSize]) =>
  Object.entries(quantizers).map(([quantizer, options]) => arm([qatStep(bits, { bits, groupSize, ...options })], { groups, quantizer })),
);

function at(groups: string, ...quantizers: readonly string[]): Record<string, ExperimentRow> {
  return Object.fromEntries(quantizers.map((quantizer) => [quantizer, { groups, quantizer }]));
}

const groups = Object.keys(granularities);

export const quantizer: RecipeExperiment = {
  name: 'quantizer',
  title: 'What is learned of the grid while weights are trained, at 2 bits from rounding',
  description:
    'Dense weights are given grids of 2 bits, per channel and in groups of 32, and trained towards the answers of the dense model for the same steps at the same rates. The grid is: recomputed from the range of the weights at every step; that range, shrunk by factors that are learned (OmniQuant); ' +
    'a learned scale (LSQ); a learned scale and zero point or free offset (LSQ+); a learned scale and four levels around zero without a level at it (SEQ, from ParetoQ). Offsets that are free cost bits in groups of 32; the table says how many. Look at the distance between recomputed and learned grids, which is largest where a group is a whole channel.',
  source: 'arXiv 1902.08153 (LSQ), arXiv 2004.09576 (LSQ+), arXiv 2308.13137 (LWC), arXiv 2502.02631 (SEQ)',
  ...protocol,
  models: ['tiny'],
  arms,
  table: { rows: ['model', 'groups', 'quantizer'], values: ['loss-gap', 'kl', 'bitsPerWeight', 'seconds'] },
  figure: gapDots('quantizer', Object.keys(quantizers), { row: { field: 'groups', sort: groups } }),
  claims: [
    claimOn(
      'learned',
      'Learned scales and zero points add less loss than ranges that are recomputed at every step, in every seed',
      groups.map((one) => ascending(`2 bits, ${one}`, at(one, INTEGER, MIN_MAX))),
    ),
    claimOn(
      'seq',
      'With four levels and no offset, levels around zero without one at it (SEQ) add less loss than those of LSQ, of which one is zero, in every seed',
      groups.map((one) => ascending(`2 bits, ${one}`, at(one, SEQ, SYMMETRIC))),
    ),
  ],
};
