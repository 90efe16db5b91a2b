// Statistics of a linear group's inputs: folds over batches, computed once for all Linears of the group.
import { abs, add, matmul, max, maximum, reshape, slice } from './ops/index.js';
import type { Tensor } from './tensor.js';

/** A fold over a group's inputs. Both functions build graphs; the runner evaluates once a batch. */
export interface Statistic {
  readonly name: string;
  /** Statistic of one batch; x is [rows, inFeatures]. */
  of(x: Tensor): Tensor;
  /** Statistic of the union of two disjoint sets of rows. Associative and commutative. */
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

/** [..., features] → [rows, features]. */
export function flattenRows(x: Tensor): Tensor {
  const features = x.shape[x.rank - 1];
  return x.rank === 2 ? x : reshape(x, [x.size / features, features]);
}
