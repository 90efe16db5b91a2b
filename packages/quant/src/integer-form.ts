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
  const inner = wrapped(linear);
  if (!inner) return { obstacle: `its input is not quantized (kind '${linear.kind}')` };
  const form = integerForm(inner.part);
  return 'linear' in form ? { linear: inner.around(form.linear) } : form;
}

/** Whether a layer, or what it wraps, is in the form that `integerForm` gives. */
export function runsInIntegers(linear: Linear): boolean {
  const inner = wrapped(linear);
  return inner ? runsInIntegers(inner.part) : linear instanceof IntegerLinear;
}

interface Wrapped {
  readonly part: Linear;
  /** The wrapper around another part. */
  around(part: Linear): Linear;
}

/** The layer behind a wrapper that leaves its part's computation as it is. */
function wrapped(linear: Linear): Wrapped | undefined {
  if (linear instanceof SplitLinear) return { part: linear.rest, around: (rest) => linear.with({ rest }) };
  if (linear instanceof RotatedLinear) return { part: linear.base, around: (base) => linear.over(base) };
  if (linear instanceof LowRankLinear) return { part: linear.base, around: (base) => linear.with({ base }) };
  return undefined;
}
