// How far a quantized Linear's outputs are from the original's, from the Gram matrix of its inputs.
import { type Backend, type Linear, matmul, mul, readNumber, sub, sum, type Tensor } from '@lowbit/core';

/**
 * ‖X(Ŵ−W)ᵀ‖² / ‖XWᵀ‖² = tr(E G Eᵀ) / tr(W G Wᵀ) with G = XᵀX and E = Ŵ − W. 0 when both are 0 (inputs that never fire). Quantized
 * activations are no part of it.
 */
export async function relativeOutputError(backend: Backend, original: Linear, quantized: Linear, gram: Tensor): Promise<number> {
  const weight = original.effectiveWeight();
  const [error, signal] = await backend.evaluate([energy(sub(quantized.effectiveWeight(), weight), gram), energy(weight, gram)]);
  const [e, s] = [await readNumber(error), await readNumber(signal)];
  return e === 0 && s === 0 ? 0 : e / s;
}

/** tr(A G Aᵀ) as Σ (A G) ⊙ A, which needs no [out, out] product. */
function energy(a: Tensor, gram: Tensor): Tensor {
  return sum(mul(matmul(a, gram), a));
}
