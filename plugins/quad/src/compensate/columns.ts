// The best outlier columns beside a quantized rest: a least-squares problem of as many unknowns an output as there are columns.
import {
  add,
  type Backend,
  flattenRows,
  linear,
  matmul,
  mul,
  readFloats,
  readNumber,
  slice,
  square,
  sub,
  sum,
  type Tensor,
  tensor,
  transpose,
} from '@lowbit/core';
import { cholesky, solveTriangular } from '@lowbit/linalg';
import type { SplitLinear } from '@lowbit/quant';

/** What is summed over the rows x that a layer reads: x_o are its r outlier inputs, e how far its products are from x Wᵀ, biases left out. */
export interface ColumnSums {
  /** Σ x_oᵀ x_o, [r, r] */
  readonly products: Tensor;
  /** Σ x_oᵀ e, [r, out] */
  readonly coupling: Tensor;
  /** Σ ‖e‖² */
  readonly error: Tensor;
  /** Σ ‖x Wᵀ‖² */
  readonly signal: Tensor;
}

/** The sums of one batch x [..., in] against a weight W [out, in]: expressions. */
export function columnSums(layer: SplitLinear, weight: Tensor, x: Tensor): ColumnSums {
  const rows = flattenRows(x);
  const product = linear(rows, weight);
  // What the layer gives for zeros is its bias, wherever in it that lies.
  const bias = layer.forward(tensor(new Float32Array(layer.inFeatures), [1, layer.inFeatures]));
  const error = sub(sub(layer.forward(rows), bias), product);
  const free = slice(rows, 1, 0, layer.rank);
  return {
    products: matmul(free, free, { transposeA: true }),
    coupling: matmul(free, error, { transposeA: true }),
    error: sum(square(error)),
    signal: sum(square(product)),
  };
}

export interface ColumnSolution {
  /** [out, r] */
  readonly columns: Float32Array;
  /** The relative λ that was used: the one asked for, or more. */
  readonly dampening: number;
}

/**
 * Columns U of min Σ ‖e + (U − Ŵ_o) x_o‖² + λ‖U − W_o‖²: U = W_o + Δ with Δ (C + λI) = (Ŵ_o − W_o) C − (Σ x_oᵀ e)ᵀ, C = Σ x_oᵀ x_o. Where the
 * layer rounds no inputs, Δ = (W − Ŵ)_q C_qo (C_oo + λI)⁻¹, with q the other inputs.
 * @param sums leaves.
 * @param given Ŵ_o, what the sums were made with, [out, r]; `dense` is W_o.
 */
export async function bestColumns(
  backend: Backend,
  { products, coupling }: ColumnSums,
  given: Tensor,
  dense: Tensor,
  dampening: number,
): Promise<ColumnSolution> {
  const [out, rank] = given.shape;
  const known = matmul(products, sub(given, dense), { transposeB: true });
  const [rhs, matrix, before] = await Promise.all((await backend.evaluate([sub(known, coupling), products, dense])).map(readFloats));
  const factor = await cholesky(backend, matrix, rank, { dampening });
  const half = await solveTriangular(backend, factor.lower, rank, rhs, out);
  const solved = await solveTriangular(backend, factor.lower, rank, half, out, { transpose: true });
  const [delta] = await backend.evaluate([transpose(tensor(solved, [rank, out]), [1, 0])]);
  const added = await readFloats(delta);
  return { columns: before.map((w, i) => w + added[i]), dampening: factor.dampening };
}

/** How Σ ‖e‖² changes when columns take the place of those that the sums were made with, both [out, r]. */
export async function errorChange(backend: Backend, { products, coupling }: ColumnSums, from: Tensor, to: Tensor): Promise<number> {
  const step = transpose(sub(to, from), [1, 0]);
  // Σ‖e + δ x_o‖² − Σ‖e‖² = Σ δᵀ ⊙ (C δᵀ + 2 Σ x_oᵀ e)
  const [change] = await backend.evaluate([sum(mul(step, add(matmul(products, step), mul(coupling, 2))))]);
  return readNumber(change);
}
