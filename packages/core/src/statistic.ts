// Statistics of a linear group's inputs: folds over batches, computed once for all Linears of the group.
import { abs, add, matmul, max, maximum, mean, reshape, slice, square, sum } from './ops/index.js';
import type { Tensor } from './tensor.js';

/** A fold over a group's inputs. Both functions build graphs; the runner evaluates once a batch. */
export interface Statistic {
  readonly name: string;
  /** Statistic of one batch; x is [rows, inFeatures]. */
  of(x: Tensor): Tensor;
  /** Of two disjoint sets of rows, that of their union; `peakMeanMagnitude` alone depends on which batches there were. Associative and commutative. */
  merge(a: Tensor, b: Tensor): Tensor;
  /** The statistic of inputs [start, end) alone, for a Linear of which only those are quantized. */
  restrict(value: Tensor, start: number, end: number): Tensor;
}

/** Σ xᵀx, [in, in]: the layer Hessian of a linear least-squares objective up to a factor (GPTQ, arXiv 2210.17323, eq. 3). */
export const gram: Statistic = {
  name: 'gram',
  of: (x) => matmul(x, x, { transposeA: true }),
  merge: add,
  restrict: (value, start, end) => slice(slice(value, 0, start, end), 1, start, end),
};

/** max |x| of each input, [in]. */
export const absmax: Statistic = {
  name: 'absmax',
  of: (x) => max(abs(x), [0]),
  merge: maximum,
  restrict: (value, start, end) => slice(value, 0, start, end),
};

/** Σ x² of each input, [in]: the diagonal of `gram` at a fraction of its cost. */
export const energy: Statistic = {
  name: 'energy',
  of: (x) => sum(square(x), [0]),
  merge: add,
  restrict: (value, start, end) => slice(value, 0, start, end),
};

/**
 * max over batches of mean |x| of each input, [in]: the activation magnitude of LQER (arXiv 2402.02446). It depends on how the rows
 * are split into batches: between the mean over all rows (one batch) and `absmax` (a row a batch).
 */
export const peakMeanMagnitude: Statistic = {
  name: 'peak-mean-magnitude',
  of: (x) => mean(abs(x), [0]),
  merge: maximum,
  restrict: (value, start, end) => slice(value, 0, start, end),
};

/** [..., features] → [rows, features]. */
export function flattenRows(x: Tensor): Tensor {
  const features = x.shape[x.rank - 1];
  return x.rank === 2 ? x : reshape(x, [x.size / features, features]);
}
