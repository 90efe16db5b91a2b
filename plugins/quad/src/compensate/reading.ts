// What the outputs of a layer with outlier columns are a product of: its inputs, and their rounded form where it rounds them.
import { concat, flattenRows, neg, slice, sub, type Tensor } from '@lowbit/core';
import { ActivationQuantizedLinear, quantizeActivations, type SplitLinear } from '@lowbit/quant';
import type { CompensateOptions } from './options.js';

/** The layer's error Ŷ − Y as rows · deviationᵀ, outlier columns first. */
export interface Reading {
  /** Equal for layers that make the same rows of the same inputs. */
  readonly key: string;
  /** [..., in] → [rows, width] */
  rows(x: Tensor): Tensor;
  /** How far the layer is from a weight [out, in], [out, width]. */
  deviation(weight: Tensor): Tensor;
}

/**
 * With r outlier inputs x_o and others x_q, rounded to x̂_q: Ŷ − Y = x_o (Ŵ_o − W_o)ᵀ − x_q W_qᵀ + x̂_q Ŵ_qᵀ. Without rounding,
 * or where it is to be left out, it is x (Ŵ − W)ᵀ.
 */
export function readingOf(split: SplitLinear, activations: CompensateOptions['activations']): Reading {
  const { rest, rank, inFeatures } = split;
  if (activations === 'dense' || !(rest instanceof ActivationQuantizedLinear)) {
    return { key: 'plain', rows: flattenRows, deviation: (weight) => sub(split.effectiveWeight(), weight) };
  }
  const { bits, clipRatio, groupSize } = rest;
  const restOf = (t: Tensor): Tensor => slice(t, 1, rank, inFeatures);
  return {
    key: [rank, bits, clipRatio, groupSize].join(':'),
    rows(x) {
      const inputs = flattenRows(x);
      return concat([inputs, quantizeActivations(restOf(inputs), rest)], 1);
    },
    deviation: (weight) => concat([sub(split.outlier, slice(weight, 1, 0, rank)), neg(restOf(weight)), rest.effectiveWeight()], 1),
  };
}
