// Quantizers of the part that is not kept in full precision.
import type { ExperimentRow, RecipeExperiment, StepReference } from '@lowbit/core';
import { ascends, claimOn } from '@lowbit/core/experiments';
import { arm, type Format, protocol, quadStep, weightStep } from './arms.js';
import { gapDots } from './figure.js';
import { isAtMost } from './noise.js';

const formatsTried: Readonly<Record<string, Format>> = {
  W4A4: { weights: 4, activations: 4, outputs: 4 },
  W2A16: { weights: 2, activations: 16, outputs: 16 },
};

const GPTQ = 'GPTQ';
const FREE = 'GPTQ, columns fitted';

/** Layer by layer; one scale and one offset an output channel. */
function decoupleqStep({ weights }: Format): StepReference {
  return { method: 'decoupleq', options: { bits: weights, groupSize: -1, blockEpochs: 0 } };
}

const compensateStep: StepReference = { method: 'compensate' };

/** In the order of the figure. */
const quantizers: Readonly<Record<string, (format: Format) => readonly StepReference[]>> = {
  RTN: (format) => [weightStep('rtn', format)],
  [GPTQ]: (format) => [weightStep('gptq', format)],
  [FREE]: (format) => [weightStep('gptq', format), compensateStep],
  decoupleQ: (format) => [decoupleqStep(format)],
  'decoupleQ, columns fitted': (format) => [decoupleqStep(format), compensateStep],
};

/** Rows with columns fitted and without. */
function both(format: string): Readonly<Record<string, ExperimentRow>> {
  return { [FREE]: { format, weights: FREE }, [GPTQ]: { format, weights: GPTQ } };
}

export const weights: RecipeExperiment = {
  name: 'weights',
  title: 'Quantizers of the rest, and columns in full precision fitted to their error',
  description:
    'QUAD leaves the weights of the rotated rest to any quantizer; here rounding to nearest, GPTQ and decoupleQ, one scale an output channel, at W4A4, and at 2 bits with activations as they are. Columns in full precision can take over what the codes leave: `compensate` ' +
    'fits them to the error of the codes in closed form, at no cost when the model runs. Look for a gain of that at 2 bits, and none that matters at 4.',
  source: 'arXiv 2503.19353, the quantizer of the rest; fitted columns are not in the paper',
  ...protocol,
  arms: Object.entries(formatsTried).flatMap(([name, format]) =>
    Object.entries(quantizers).map(([quantizer, stepsOf]) =>
      arm([quadStep(format), ...stepsOf(format)], { format: name, weights: quantizer }),
    ),
  ),
  table: { rows: ['model', 'weights'], columns: 'format', values: ['perplexity', 'loss-gap', 'kl', 'bitsPerWeight'] },
  figure: gapDots('weights', Object.keys(quantizers), { field: 'format', sort: Object.keys(formatsTried) }),
  claims: [
    claimOn('columns', 'Fitting the columns lowers the added loss at 2 bits, in every seed', [
      { subject: 'W2A16, GPTQ', arms: both('W2A16'), holds: ascends },
    ]),
    claimOn('columns-4', 'Fitting the columns adds no loss at 4 bits, beyond noise', [
      { subject: 'W4A4, GPTQ', arms: both('W4A4'), holds: ([fitted, plain]) => isAtMost(fitted, plain) },
    ]),
  ],
};
