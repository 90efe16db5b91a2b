// The kinds of Linear that this package defines, for readers of checkpoints.
import type { Linear, LinearKinds } from '@lowbit/core';
import { restoreActivationQuantized } from './activation-quantized-linear.js';
import { restoreLowRank } from './low-rank-linear.js';
import { restoreQuantized } from './quantized-linear.js';
import { restoreRotated } from './rotated-linear.js';
import { restoreSplit } from './split-linear.js';

/** Restorers by kind: 'affine', 'low-rank', 'activation-quantized', 'split', 'rotated'. Spread them beside those of plugins with kinds of their own. */
export const linearKinds: LinearKinds = {
  affine: restoreQuantized,
  'low-rank': restoreLowRank,
  'activation-quantized': restoreActivationQuantized,
  split: restoreSplit,
  rotated: restoreRotated,
};

/** Stored bits per weight: codes, scales, zero points, offsets and adapters counted, the bias not. */
export function bitsPerWeight(linear: Linear): number {
  return linear.storageBits / (linear.inFeatures * linear.outFeatures);
}
