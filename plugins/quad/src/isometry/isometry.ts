// The isometry T of the residual stream, x → x T with T Tᵀ = I, as graphs over weights; T itself is never made.
import { concat, matmul, mul, reshape, slice, sub, type Tensor, tensor } from '@lowbit/core';
import type { AxisRotation } from './axis-rotation.js';
import type { Reflections } from './reflections.js';

/** Outlier directions and the rotation of their coefficients. */
export interface OutlierSpace {
  readonly reflections: Reflections;
  /** H_r. */
  readonly rotation: AxisRotation;
}

/** 'expand': d + r features, of which the last d span d − r dimensions. 'compact': d features, r and d − r. */
export type Layout = 'expand' | 'compact';

/** A weight's features in the new basis: the first `rank` of them, and the others. */
export interface SplitFeatures {
  readonly outlier: Tensor | undefined;
  readonly rest: Tensor;
}

/**
 * T = [P H_r | (I − P Pᵀ) H] for the layout 'expand' (QUAD, arXiv 2503.19353), [P H_r | P⊥ H] for 'compact' (ResQ, arXiv 2412.14363), and H
 * without outliers (QuaRot, arXiv 2404.00456). T Tᵀ = I, so that norms are kept and what reads the stream with W T sees what W saw.
 */
export class Isometry {
  readonly layout: Layout;
  /** d, the width of the stream before. */
  readonly width: number;
  readonly outliers: OutlierSpace | undefined;
  /** H, of order d or, compact, d − r. */
  readonly rotation: AxisRotation;
  readonly #leaves: Leaves | undefined;

  constructor(parts: { layout: Layout; width: number; outliers: OutlierSpace | undefined; rotation: AxisRotation }) {
    this.layout = parts.layout;
    this.width = parts.width;
    this.outliers = parts.outliers;
    this.rotation = parts.rotation;
    this.#leaves = parts.outliers && leavesOf(parts.outliers.reflections, parts.layout);
  }

  /** r. */
  get rank(): number {
    return this.outliers?.reflections.rank ?? 0;
  }

  /** Width of the stream after. */
  get residualWidth(): number {
    return this.rank + this.rotation.size;
  }

  /** W [rows, d] → W T, for what reads the stream; W diag(γ) T with the weight γ [d] of the norm between them. */
  input(weight: Tensor, gamma?: Tensor): SplitFeatures {
    return this.#split(weight, 1, gamma);
  }

  /** W [d, columns] → Tᵀ W [residual width, columns], for what writes to the stream. */
  output(weight: Tensor): Tensor {
    return joined(this.#split(weight, 0), 0);
  }

  /** b [d] → b T [residual width]. */
  vector(bias: Tensor): Tensor {
    return reshape(this.rows(reshape(bias, [1, bias.size])), [this.residualWidth]);
  }

  /** Rows [rows, d] → rows · T [rows, residual width]: embeddings, and the stream itself. */
  rows(x: Tensor): Tensor {
    return joined(this.#split(x, 1), 1);
  }

  /** The features on `axis` of a matrix: those of a row for 1, of a column for 0. Those of rows may be scaled by γ [d] first. */
  #split(given: Tensor, axis: 0 | 1, gamma?: Tensor): SplitFeatures {
    const x = gamma ? mul(given, gamma) : given;
    if (!this.#leaves || !this.outliers) return { outlier: undefined, rest: this.rotation.apply(x, axis) };
    const { basis, complement } = this.#leaves;
    // (W diag(γ)) P = W (diag(γ) P): the outlier columns alone make no other matrix of the weight's size.
    const coefficientsOf = (vectors: Tensor): Tensor =>
      project(given, gamma ? mul(vectors, reshape(gamma, [gamma.size, 1])) : vectors, axis);
    const coefficients = coefficientsOf(basis);
    const rest = complement
      ? slice(sub(x, spread(coefficientsOf(complement.scaled), complement.reflectors, axis)), axis, this.rank, this.width)
      : sub(x, spread(coefficients, basis, axis));
    return { outlier: this.outliers.rotation.apply(coefficients, axis), rest: this.rotation.apply(rest, axis) };
  }
}

interface Leaves {
  /** P, [d, r]. */
  readonly basis: Tensor;
  /** Q = I − scaled·reflectorsᵀ, whose columns beyond r span the complement; undefined where the features of P Pᵀ stay, as zeros. */
  readonly complement: { readonly scaled: Tensor; readonly reflectors: Tensor } | undefined;
}

function leavesOf({ basis, scaled, reflectors, width, rank }: Reflections, layout: Layout): Leaves {
  const leaf = (values: Float64Array): Tensor => tensor(Float32Array.from(values), [width, rank]);
  return { basis: leaf(basis), complement: layout === 'compact' ? { scaled: leaf(scaled), reflectors: leaf(reflectors) } : undefined };
}

/** Coefficients of x's features in `vectors` [d, r]. */
function project(x: Tensor, vectors: Tensor, axis: 0 | 1): Tensor {
  return axis === 1 ? matmul(x, vectors) : matmul(vectors, x, { transposeA: true });
}

/** Features that have these coefficients. */
function spread(coefficients: Tensor, vectors: Tensor, axis: 0 | 1): Tensor {
  return axis === 1 ? matmul(coefficients, vectors, { transposeB: true }) : matmul(vectors, coefficients);
}

function joined({ outlier, rest }: SplitFeatures, axis: 0 | 1): Tensor {
  return outlier ? concat([outlier, rest], axis) : rest;
}
