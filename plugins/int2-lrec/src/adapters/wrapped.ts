// Linears within wrappers that quantize activations or keep some columns.
import type { Linear } from '@lowbit/core';

/** The layer itself, or the part of a wrapper that methods work on. */
export function innerLinear(linear: Linear): Linear {
  return linear.quantizable?.linear ?? linear;
}

/** The layer with another inner one: that one itself where nothing wraps it. */
export function withInner(linear: Linear, inner: Linear): Linear {
  return linear.quantizable?.replace(inner) ?? inner;
}
