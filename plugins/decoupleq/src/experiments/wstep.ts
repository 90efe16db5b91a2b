// Ways to find codes for given scales and offsets.
import type { ExperimentArm, RecipeExperiment } from '@lowbit/core';
import { arm, decoupleqStep, gptqStep, protocol } from './arms.js';
import { dots, measurePanels } from './figure.js';
import { meanLayerLoss } from './logs.js';

/** What every arm quantizes, the others stay dense: first-level rounding costs inputs³ for each output and inner step. */
const targets = ['**.layers.2.self_attn.*'];

const format = { bits: 2, groupSize: 32 };

const BASELINE = 'GPTQ alone';

const codeSteps = ['gptq', 'pgd+gptq', 'first-level'] as const;

const alternations = codeSteps.flatMap((codeStep) => [
  { name: codeStep, step: decoupleqStep(format, { codeStep }) },
  { name: `${codeStep} + descent`, step: decoupleqStep(format, { codeStep, descentSweeps: 3 }) },
]);

const arms: ExperimentArm[] = [{ name: BASELINE, step: gptqStep(format) }, ...alternations].map(({ name, step }) =>
  arm({ ...step, options: { ...step.options, targets } }, { 'code step': name }),
);

const measures = ['layer-loss', 'layer-error', 'loss-gap', 'seconds'];

export const wstep: RecipeExperiment = {
  name: 'wstep',
  title: 'Code steps: GPTQ, projected Adam before it, first-level rounding, and integer descent after each',
  description:
    'At 2 bits in groups of 32, the attention projections of one block alone (in every arm: first-level rounding costs the cube of the inputs). Layer loss is on the calibration rows of the quantized ' +
    'Linears, layer error on held-out text over all Linears, dense ones included. The published Llama command runs GPTQ in every alternation, whatever it is told about projected Adam; the paper uses first-level rounding for ' +
    'small networks. Look for a small gain of projected Adam over GPTQ, and for descent: it always lowers the layer loss, and not always the added loss.',
  source: 'arXiv 2404.12759, the two relaxations of the integer program',
  ...protocol,
  models: ['tiny'],
  evaluators: ['text', 'layer-error'],
  arms,
  rowsOf: (outcome) => [
    {
      ...outcome.arm.parameters,
      'layer-loss': meanLayerLoss(outcome),
      'layer-error': outcome.scores['layer-error'],
      'loss-gap': outcome.scores['loss-gap'],
      seconds: outcome.seconds,
    },
  ],
  table: { rows: ['model', 'code step'], values: measures },
  figure: measurePanels(
    measures,
    dots({
      x: { field: 'value', title: null, scale: { zero: false, padding: 12 } },
      y: { field: 'code step', title: null, type: 'nominal', sort: arms.map(({ name }) => name) },
    }),
    { independent: ['x'] },
  ),
};
