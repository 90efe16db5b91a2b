// Tuning of the part in full precision, and the control that tells what of its gain is repair.
import type { RecipeExperiment, StepReference } from '@lowbit/core';
import { ascends, type Comparison, claimOn, difference } from '@lowbit/core/experiments';
import type { TuneInput } from '../tune/options.js';
import { arm, type Format, formats, protocol, quadStep, rotateStep, weightStep } from './arms.js';
import { gapDots } from './figure.js';

/** Of models of some millions of weights: higher ones fit the calibration text and no other of its kind. */
const RATE = 3e-4;

/** One pass: what is seen twice is fitted more than learned. 61 steps of 1024 tokens. */
const CALIBRATION_WINDOWS = 256;

function tuneStep(changes: TuneInput = {}): StepReference {
  return { method: 'tune', options: { batchWindows: 4, windowsAtOnce: 4, learningRate: RATE, ...changes } };
}

const quad = [quadStep(formats.W4A4), weightStep('gptq', formats.W4A4)];
const rotated = [rotateStep(formats.W4A4), weightStep('gptq', formats.W4A4)];
const scales: TuneInput = { parameters: ['scale'] };
const columns: TuneInput = { parameters: ['outlier'] };

const unrounded: Format = { weights: 16, activations: 16, outputs: 16 };

/** Codes of 8 bits change next to nothing, and have scales. */
const finer: Format = { ...unrounded, weights: 8 };

const UNTUNED = 'QUAD';
const TUNED = 'QUAD, tuned';
const COLUMNS = 'QUAD, columns tuned';
const ROTATED = 'QuaRot, scales tuned';
const controlOf = (training: string): string => `control of ${training}`;

/** Steps by the name of the arm, in the order of the figure. */
const variants: Readonly<Record<string, readonly StepReference[]>> = {
  QuaRot: rotated,
  [ROTATED]: [...rotated, tuneStep(scales)],
  [controlOf(ROTATED)]: [rotateStep(finer), weightStep('rtn', finer), tuneStep(scales)],
  [UNTUNED]: quad,
  'QUAD, scales tuned': [...quad, tuneStep(scales)],
  [COLUMNS]: [...quad, tuneStep(columns)],
  [controlOf(COLUMNS)]: [quadStep(unrounded), tuneStep(columns)],
  [TUNED]: [...quad, tuneStep()],
  [controlOf(TUNED)]: [quadStep(finer), weightStep('rtn', finer), tuneStep()],
  'QUAD, tuned towards the dense model': [...quad, tuneStep({ loss: 'kd' })],
};

function compared(...training: readonly string[]): Record<string, { training: string }> {
  return Object.fromEntries(training.map((name) => [name, { training: name }]));
}

/** A tuned model beside its control and itself before: what quantizing costs after tuning, and what it cost without. */
function againstControl(tuned: string, untuned: string): Comparison {
  return {
    subject: `W4A4, ${tuned}`,
    arms: compared(controlOf(tuned), tuned, untuned),
    holds: ([control, after]) => ascends([control, after]),
    figures: ([control, after, before]) => ({
      'tuned less control': difference(after, control),
      'untuned less dense': before,
    }),
  };
}

export const peft: RecipeExperiment = {
  name: 'peft',
  title: 'Tuning the columns in full precision and the scales, W4A4',
  description:
    'Columns in full precision and scales are trained on the next token of the calibration text, 62 thousand tokens in one pass, through codes and rounded activations; another part of the text judges, by the loss that is added to that of the dense model as it was (below zero: better at the text). ' +
    'Also scales alone, columns alone, and towards the answers of the dense model instead of the text. Where the dense model has something to learn from the text, tuning lowers the loss of any model, quantized or not: the controls train the same parameters of the transformed model with activations as they are and codes of 8 bits (for columns alone: dense weights). ' +
    'What quantizing costs after tuning is the distance to the control, to be held against what it cost before, the distance of the untuned model to the dense one; so a gain on the dense model is adaptation to the text, not repair. A model has little to learn from the text that it was trained on: give another one with --text.',
  source: 'arXiv 2503.19353, parameter-efficient tuning',
  ...protocol,
  calibrationWindows: CALIBRATION_WINDOWS,
  arms: Object.entries(variants).map(([training, steps]) => arm(steps, { training })),
  table: { rows: ['model', 'training'], values: ['perplexity', 'loss-gap', 'kl', 'seconds'] },
  figure: gapDots('training', Object.keys(variants)),
  claims: [
    claimOn('tuned', 'Tuning lowers the loss of QUAD on other text, in every seed', [
      { subject: 'W4A4', arms: compared(TUNED, UNTUNED), holds: ascends },
    ]),
    claimOn('tuned-columns', 'Tuned QUAD has a lower loss than QuaRot with tuned scales, in every seed', [
      { subject: 'W4A4', arms: compared(TUNED, ROTATED), holds: ascends },
    ]),
    claimOn(
      'adaptation',
      'Tuning does not undo quantizing: the control, in which the same parameters were tuned without it, has a lower loss than the tuned model, in every seed',
      [againstControl(TUNED, UNTUNED), againstControl(COLUMNS, UNTUNED), againstControl(ROTATED, 'QuaRot')],
    ),
  ],
};
