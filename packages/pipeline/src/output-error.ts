// How far a quantized Linear's outputs are from the original's, from the Gram matrix of its inputs.
import { type Backend, type Linear, matmul, mul, readNumber, sub, sum, type Tensor } from '@lowbit/core';

/**
 * ‖X(Ŵ−W)ᵀ‖² / ‖XWᵀ‖² = tr(E G Eᵀ) / tr(W G Wᵀ) of each candidate, with G = XᵀX and E = Ŵ − W. 0 when both are 0 (inputs that never
 * fire); 1, no better than zeros, when only the original's outputs are 0 (a layer of zeros on a grid without 0). What a layer does to its activations is no part of it.
 */
export async function relativeOutputErrors(
  backend: Backend,
  original: Linear,
  candidates: readonly Linear[],
  gram: Tensor,
): Promise<number[]> {
  const weight = original.effectiveWeight();
  const signal = await energy(backend, weight, gram);
  const energies: number[] = [];
  // One after the other: each takes several matrices of the weight's size.
  for (const candidate of candidates) energies.push(await energy(backend, sub(candidate.effectiveWeight(), weight), gram));
  return energies.map((error) => (signal === 0 && Number.isFinite(error) ? Number(error !== 0) : error / signal));
}

/** tr(A G Aᵀ) as Σ (A G) ⊙ A, which needs no [out, out] product. */
async function energy(backend: Backend, a: Tensor, gram: Tensor): Promise<number> {
  const [value] = await backend.evaluate([sum(mul(matmul(a, gram), a))]);
  return readNumber(value);
}
