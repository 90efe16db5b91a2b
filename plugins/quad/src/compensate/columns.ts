// The best outlier columns beside a quantized rest: a least-squares problem of as many unknowns an output as there are columns.
import { type Backend, matmul, mul, neg, readFloats, readNumber, slice, sum, type Tensor, tensor, transpose } from '@lowbit/core';
import { cholesky, solveTriangular } from '@lowbit/linalg';

export interface ColumnProblem {
  /** D: how far the layer is from the dense one, [out, width], a leaf. The free columns come first. */
  readonly deviation: Tensor;
  /** C = Σ rowᵀ row of what the layer reads, [width, width], a leaf. */
  readonly gram: Tensor;
  /** Free columns. */
  readonly rank: number;
  readonly dampening: number;
}

/** What to add to the dense weight's outlier columns. */
export interface ColumnSolution {
  /** Δ [out, rank], a leaf. */
  readonly delta: Tensor;
  /** The relative λ that was used: the one asked for, or more. */
  readonly dampening: number;
}

/**
 * Δ of min tr([Δ D_q] C [Δ D_q]ᵀ) + λ‖Δ‖²: Δ = −D_q C_qo (C_oo + λI)⁻¹, with o the free columns and q the others. Where activations
 * are not rounded, D_q = Ŵ_q − W_q.
 */
export async function bestColumns(backend: Backend, { deviation, gram, rank, dampening }: ColumnProblem): Promise<ColumnSolution> {
  const [out, width] = deviation.shape;
  const columns = slice(gram, 1, 0, rank);
  const coupling = matmul(slice(deviation, 1, rank, width), slice(columns, 0, rank, width));
  const [own, rhs] = await Promise.all(
    (await backend.evaluate([slice(columns, 0, 0, rank), transpose(neg(coupling), [1, 0])])).map(readFloats),
  );
  const factor = await cholesky(backend, own, rank, { dampening });
  const half = await solveTriangular(backend, factor.lower, rank, rhs, out);
  const solved = await solveTriangular(backend, factor.lower, rank, half, out, { transpose: true });
  const [delta] = await backend.evaluate([transpose(tensor(solved, [rank, out]), [1, 0])]);
  return { delta, dampening: factor.dampening };
}

/** tr(A C Aᵀ) of each matrix [out, width]: the energy of rows · Aᵀ. */
export async function energies(backend: Backend, matrices: readonly Tensor[], gram: Tensor): Promise<number[]> {
  return Promise.all((await backend.evaluate(matrices.map((a) => sum(mul(matmul(a, gram), a))))).map(readNumber));
}
