// Finds what can be computed in integers within wrapped layers.
import type { Linear } from '@lowbit/core';
import { ActivationQuantizedLinear } from './activation-quantized-linear.js';
import { IntegerLinear, integerObstacle } from './integer-linear.js';
import { LowRankLinear } from './low-rank-linear.js';
import { RotatedLinear } from './rotated-linear.js';
import { SplitLinear } from './split-linear.js';

/** A layer whose quantized product runs in integers, or why none does. */
export type IntegerForm = { readonly linear: Linear } | { readonly obstacle: string };

/**
 * The same layer with an `IntegerLinear` in place of its `ActivationQuantizedLinear`: itself, or behind a rotation, beside outlier columns
 * or beneath a low-rank correction, which stay in float32.
 */
export function integerForm(linear: Linear): IntegerForm {
  if (linear instanceof IntegerLinear) return { linear };
  if (linear instanceof ActivationQuantizedLinear) {
    const obstacle = integerObstacle(linear);
    return obstacle === undefined ? { linear: new IntegerLinear(linear) } : { obstacle };
  }
  if (linear instanceof SplitLinear) return within(linear.rest, (rest) => linear.with({ rest }));
  if (linear instanceof RotatedLinear) return within(linear.base, (base) => linear.over(base));
  if (linear instanceof LowRankLinear) return within(linear.base, (base) => linear.with({ base }));
  return { obstacle: `its input is not quantized (kind '${linear.kind}')` };
}

function within(part: Linear, rebuild: (part: Linear) => Linear): IntegerForm {
  const form = integerForm(part);
  return 'linear' in form ? { linear: rebuild(form.linear) } : form;
}
