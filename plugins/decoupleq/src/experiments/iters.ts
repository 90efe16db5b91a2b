// How many alternations are worth their time.
import type { RecipeExperiment } from '@lowbit/core';
import { arm, decoupleqStep, protocol } from './arms.js';
import { curves, logarithmic, measurePanels } from './figure.js';
import { blockRecords, meanLayerLoss } from './logs.js';
import { mean } from './samples.js';

/** A single epoch: enough for the method to measure its blocks before and after. */
const training = [
  { training: 'layer-wise', blockEpochs: 0, counts: [1, 2, 3, 4, 5, 6, 7, 8] },
  { training: 'one epoch block-wise', blockEpochs: 1, counts: [1, 2, 4, 8] },
];

const measures = ['layer-loss', 'block-loss', 'loss-gap'];

export const iters: RecipeExperiment = {
  name: 'iters',
  title: 'Number of iterations against layer loss, block loss and added loss, at 2 bits',
  description:
    'N from 1 (GPTQ, or rounding to nearest where that is better) to 8, in groups of 32, with and without an epoch of block-wise training. Layer loss is the mean relative output error of the Linears on the ' +
    "calibration rows; block loss the mean square error of the blocks' outputs before training. The paper stops at 4: the layer loss can only fall with N, while the loss on other text levels off, " +
    'or rises where scales and offsets are fitted to the calibration text.',
  source: 'arXiv 2404.12759, ablation of the number of iterations',
  ...protocol,
  arms: training.flatMap(({ training, blockEpochs, counts }) =>
    counts.map((iterations) => arm(decoupleqStep({ bits: 2, groupSize: 32 }, { iterations, blockEpochs }), { training, iterations })),
  ),
  rowsOf(outcome) {
    const blocks = blockRecords(outcome);
    return [
      {
        ...outcome.arm.parameters,
        'layer-loss': meanLayerLoss(outcome),
        'block-loss': blocks.length === 0 ? null : mean(blocks.map(({ blockLossBefore }) => blockLossBefore)),
        'loss-gap': outcome.scores['loss-gap'],
        seconds: outcome.seconds,
      },
    ];
  },
  table: { rows: ['model', 'training', 'iterations'], values: [...measures, 'seconds'] },
  figure: measurePanels(
    measures,
    curves({
      x: { field: 'iterations', title: 'iterations N', type: 'ordinal', axis: { labelAngle: 0 } },
      y: { field: 'value', title: null, scale: logarithmic },
      color: { field: 'training', title: 'after the layers' },
    }),
  ),
};
