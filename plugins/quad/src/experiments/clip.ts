// Clipping of activations, and keys and values of 4 bits.
import type { RecipeExperiment } from '@lowbit/core';
import { claimOn } from '@lowbit/core/experiments';
import type { QuadInput } from '../options.js';
import { arm, formats, protocol, quadStep, weightStep } from './arms.js';
import { gapDots } from './figure.js';
import { isAtMost } from './noise.js';

const ROTATED = 'KV4, keys rotated';
const PLAIN = 'KV4, keys as they are';

const variants: Readonly<Record<string, QuadInput>> = {
  'clip 0.8': { clipRatio: 0.8 },
  'clip 0.9': { clipRatio: 0.9 },
  'clip 1.0': { clipRatio: 1 },
  [ROTATED]: { keyValueBits: 4 },
  [PLAIN]: { keyValueBits: 4, rotateKeys: false },
};

export const clip: RecipeExperiment = {
  name: 'clip',
  title: 'Clipping of activations, and keys and values of 4 bits',
  description:
    'W4A4, weights by GPTQ. The range of a token covers 80, 90 (as everywhere else) or all of its largest magnitude. At 90 also keys and values of 4 bits, one scale a token and head, keys rounded in the Hadamard basis of their head or as they are. ' +
    'Look for a minimum near 0.9, which has been quoted for rotated models, and for what the cache costs on top.',
  source: 'arXiv 2503.19353 and 2404.00456, clipping ratios 0.9 (inputs) and 0.95 (keys and values)',
  ...protocol,
  arms: Object.entries(variants).map(([variant, changes]) =>
    arm([quadStep(formats.W4A4, changes), weightStep('gptq', formats.W4A4)], { variant }),
  ),
  table: { rows: ['model', 'variant'], values: ['perplexity', 'loss-gap', 'kl'] },
  figure: gapDots('variant', Object.keys(variants)),
  claims: [
    claimOn('C11', 'Clipping at 0.9 adds no more loss than covering every value, beyond noise', [
      {
        subject: 'W4A4, GPTQ',
        arms: { 'clip 0.9': { variant: 'clip 0.9' }, 'clip 1.0': { variant: 'clip 1.0' } },
        holds: ([clipped, covering]) => isAtMost(clipped, covering),
      },
    ]),
    claimOn('keys', 'Expected, not required: rotated keys of 4 bits add no more loss than keys as they are, beyond noise', [
      {
        subject: 'W4A4, KV4',
        arms: { [ROTATED]: { variant: ROTATED }, [PLAIN]: { variant: PLAIN } },
        holds: ([rotated, plain]) => isAtMost(rotated, plain),
      },
    ]),
  ],
};
