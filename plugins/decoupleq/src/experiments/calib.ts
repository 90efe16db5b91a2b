// How much calibration text is needed.
import type { RecipeExperiment } from '@lowbit/core';
import { arm, decoupleqStep, gptqStep, protocol } from './arms.js';
import { curves, doubling, logarithmic, measurePanels } from './figure.js';
import { meanLayerLoss } from './logs.js';

const format = { bits: 2, groupSize: 32 };

const steps = { GPTQ: gptqStep(format), decoupleQ: decoupleqStep(format) };

const measures = ['layer-loss', 'layer-error', 'loss-gap'];

export const calib: RecipeExperiment = {
  name: 'calib',
  title: 'Amount of calibration text against layer loss, held-out layer error and added loss, at 2 bits',
  description:
    'GPTQ and layer-wise decoupleQ in groups of 32, calibrated on 8 to 512 windows of 256 tokens. Layer loss is on the calibration rows, layer error and added loss are on held-out text. The paper finds ' +
    'that more data helps, with diminishing returns. decoupleQ fits two numbers a group to the text as well: look for a layer loss that rises with the amount while the held-out error falls, and for the ' +
    'amount below which the alternation loses its lead.',
  source: 'arXiv 2404.12759, ablation of the calibration size',
  ...protocol,
  evaluators: ['text', 'layer-error'],
  arms: Object.entries(steps).flatMap(([method, step]) =>
    [8, 16, 32, 64, 128, 256, 512].map((windows) => arm(step, { method, windows }, { calibrationWindows: windows })),
  ),
  rowsOf: (outcome) => [
    {
      ...outcome.arm.parameters,
      'layer-loss': meanLayerLoss(outcome),
      'layer-error': outcome.scores['layer-error'],
      'loss-gap': outcome.scores['loss-gap'],
    },
  ],
  table: { rows: ['model', 'method', 'windows'], values: measures },
  figure: measurePanels(
    measures,
    curves({
      x: {
        field: 'windows',
        title: 'calibration windows of 256 tokens',
        scale: doubling,
        axis: { values: [8, 16, 32, 64, 128, 256, 512] },
      },
      y: { field: 'value', title: null, scale: logarithmic },
      color: { field: 'method', title: 'method', sort: ['GPTQ', 'decoupleQ'] },
    }),
  ),
};
