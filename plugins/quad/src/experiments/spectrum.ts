// Energy of the residual stream by rank.
import type { ArmOutcome, ExperimentRow, RecipeExperiment } from '@lowbit/core';
import { means, panels } from '@lowbit/core/experiments';
import { z } from 'zod';
import { arm, protocol, quadStep } from './arms.js';

/** Nothing is rounded: what is looked at is what `quad` logs of the basis. */
const unrounded = { weights: 16, activations: 16, outputs: 16 };

const LARGEST = 64;

/** Ranks in the table. */
const listed = [1, 2, 4, 8, 16, 32, LARGEST];

const sites = { pre: 'the stream', post: 'the normalized stream' } as const;

const basisRecord = z.object({ energy: z.array(z.number()) });

function rowsOf({ arm: { parameters }, logs }: ArmOutcome): ExperimentRow[] {
  const records = logs.filter(({ record }) => 'energy' in record).map(({ record }) => basisRecord.parse(record));
  return records.flatMap(({ energy }) =>
    energy.map((share, i) => ({ ...parameters, rank: i + 1, share, ...(listed.includes(i + 1) && { directions: i + 1 }) })),
  );
}

export const spectrum: RecipeExperiment = {
  name: 'spectrum',
  title: 'Share of the energy of the residual stream in its largest directions',
  description:
    'The second moment of what the norms of all blocks read, over 32 calibration windows, and the share of it within the 1 to 64 directions of most energy: of the stream as it is, where tokens of much energy count most, and of the normalized stream, where all count alike. ' +
    'The steeper the curve, the fewer columns in full precision are needed. For models of any size, and for the range of the inputs before and after rotation and decomposition, see `lowbit inspect --spectrum`.',
  source: 'arXiv 2503.19353, figure of the singular values',
  ...protocol,
  models: [...protocol.models, 'stories15M'],
  calibrationWindows: 32,
  heldOutWindows: 4,
  arms: Object.entries(sites).map(([gram, of]) => arm([quadStep(unrounded, { rank: LARGEST, gram })], { 'energy of': of })),
  rowsOf,
  table: { rows: ['model', 'directions'], columns: 'energy of', values: ['share'] },
  figure: panels(
    means('y', 'line', {
      x: { field: 'rank', type: 'quantitative', title: 'directions' },
      y: { field: 'share', title: 'share of the energy', scale: { domain: [0, 1] } },
      color: { field: 'energy of', title: 'energy of' },
    }),
    {},
  ),
};
