// Weights alone and activations alone: where the gain on a rotation is made.
import type { ExperimentRow, RecipeExperiment, StepReference } from '@lowbit/core';
import { ascends, claimOn, difference } from '@lowbit/core/experiments';
import { arm, type Format, protocol, quadStep, rotateStep, weightStep } from './arms.js';
import { gapDots } from './figure.js';

const quantized: Readonly<Record<string, Format>> = {
  W4A16: { weights: 4, activations: 16, outputs: 16 },
  W16A4: { weights: 16, activations: 4, outputs: 4 },
};

const transforms: Readonly<Record<string, (format: Format) => StepReference>> = { QuaRot: rotateStep, QUAD: quadStep };

/** Rows of both, QUAD first. */
function both(format: string): Readonly<Record<string, ExperimentRow>> {
  return { QUAD: { format, method: 'QUAD' }, QuaRot: { format, method: 'QuaRot' } };
}

/** Nats a token. */
const EQUAL = 0.01;

export const parts: RecipeExperiment = {
  name: 'parts',
  title: 'Weights alone and activations alone, QUAD beside QuaRot',
  description:
    'W4A16 has weights of 4 bits by GPTQ and activations as they are; W16A4 the other way round. Decomposing lowers what is left of each token before it is rounded, and does nothing to the weights: look for a gain with activations alone, and none with weights alone.',
  source: 'arXiv 2503.19353, activation decomposition',
  ...protocol,
  arms: Object.entries(quantized).flatMap(([name, format]) =>
    Object.entries(transforms).map(([method, stepOf]) =>
      arm([stepOf(format), ...(format.weights < 16 ? [weightStep('gptq', format)] : [])], { format: name, method }),
    ),
  ),
  table: { rows: ['model', 'method'], columns: 'format', values: ['perplexity', 'loss-gap', 'kl'] },
  figure: gapDots('method', Object.keys(transforms), { field: 'format' }),
  claims: [
    claimOn('C8', `With weights alone, the losses that QUAD and QuaRot add differ by less than ${EQUAL} nats a token on average`, [
      {
        subject: 'W4A16',
        arms: both('W4A16'),
        holds: ([quad, rotate]) => Math.abs(difference(quad, rotate).mean) < EQUAL,
      },
    ]),
    claimOn('C9', 'With activations alone, QUAD adds less loss than QuaRot, in every seed', [
      { subject: 'W16A4', arms: both('W16A4'), holds: ascends },
    ]),
  ],
};
