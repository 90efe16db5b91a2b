// How many directions stay in full precision.
import type { RecipeExperiment } from '@lowbit/core';
import { type Comparison, claimOn, means, panels } from '@lowbit/core/experiments';
import { arm, formats, protocol, quadStep, weightStep } from './arms.js';
import { isAtMost, NOISE } from './noise.js';

const ranksTried = [0, 2, 4, 8, 16, 32, 64];
const formatsTried = ['W4A4', 'W3A3'] as const;

const falling = formatsTried.map(
  (format): Comparison => ({
    subject: `${format}, GPTQ`,
    arms: Object.fromEntries(ranksTried.map((rank) => [`rank ${rank}`, { format, rank }])),
    holds: (gaps) => gaps.slice(1).every((larger, i) => isAtMost(larger, gaps[i])),
  }),
);

export const ranks: RecipeExperiment = {
  name: 'ranks',
  title: 'Rank of the part in full precision against the loss that is added',
  description:
    'QUAD with 0 to 64 directions in full precision, W4A4 and W3A3, weights by GPTQ; rank 0 is QuaRot, with the same signs of the rotation. On a width of 192 a rank of 3 is the share that the paper keeps (64 of 4096), and 64 are a third of it. Look for a curve that falls, steeply as long ' +
    "as outlier directions are left, and no longer than the energy of what is left does (experiment 'spectrum').",
  source: 'arXiv 2503.19353, ablation of the rank',
  ...protocol,
  arms: formatsTried.flatMap((format) =>
    ranksTried.map((rank) => arm([quadStep(formats[format], { rank }), weightStep('gptq', formats[format])], { format, rank })),
  ),
  table: { rows: ['model', 'rank'], columns: 'format', values: ['perplexity', 'loss-gap', 'bitsPerWeight'] },
  figure: panels(
    means('y', 'line', {
      x: { field: 'rank', type: 'ordinal', title: 'rank', axis: { labelAngle: 0 } },
      y: { field: 'loss-gap', title: 'added loss, nats per token', scale: { zero: false } },
    }),
    { row: { field: 'format', sort: formatsTried }, independent: ['y'] },
  ),
  claims: [
    claimOn(
      'C3',
      `With more directions in full precision the added loss does not rise by more than noise, which is ${NOISE} nats a token or, where that is more, the deviation of the difference between seeds`,
      falling,
    ),
  ],
};
