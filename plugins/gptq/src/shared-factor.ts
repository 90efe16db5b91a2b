// One factorization for all Linears of a group: they read the same inputs, so the runner hands them the same Gram matrix.
import { type Backend, LowbitError, readFloats, type Tensor } from '@lowbit/core';
import { type GptqFactor, gptqFactor } from '@lowbit/quant';

/** What a factor depends on. */
export interface FactorRequest {
  readonly backend: Backend;
  /** [in, in], a leaf. */
  readonly gram: Tensor;
  readonly dampening: number;
  readonly actOrder: boolean;
  /** Path of the layer, for messages. */
  readonly path: string;
}

interface Entry extends FactorRequest {
  readonly factor: Promise<GptqFactor>;
}

/** The last factor of each Gram matrix, for as long as somebody holds the matrix. */
const latest = new WeakMap<Tensor, Entry>();

/** @throws GRAM_NOT_FINITE naming the layer when the calibration overflowed; the errors of `gptqFactor`. */
export async function sharedFactor(request: FactorRequest): Promise<GptqFactor> {
  const known = latest.get(request.gram);
  if (known && known.backend === request.backend && known.dampening === request.dampening && known.actOrder === request.actOrder) {
    return known.factor;
  }
  const factor = factorize(request);
  latest.set(request.gram, { ...request, factor });
  return factor;
}

async function factorize({ backend, gram, dampening, actOrder, path }: FactorRequest): Promise<GptqFactor> {
  const values = await readFloats(gram);
  if (!values.every(Number.isFinite)) {
    throw new LowbitError(
      'GRAM_NOT_FINITE',
      `${path}: the inputs of this layer hold NaN or Infinity; check the model and the calibration text`,
    );
  }
  return gptqFactor(backend, values, gram.shape[0], { dampening, actOrder });
}
