// One damped Hessian and one factor for all Linears of a group: they read the same inputs, so the runner hands them the same Gram matrix.
import { type Backend, LowbitError, readFloats, type Tensor } from '@lowbit/core';
import { type GptqFactor, gptqFactor } from '@lowbit/quant';

/** What a Hessian and its factor depend on. */
export interface HessianRequest {
  readonly backend: Backend;
  /** [in, in], a leaf. */
  readonly gram: Tensor;
  /** λ of the metric, relative to the mean diagonal. */
  readonly dampening: number;
  /** λ added once more for the factor. */
  readonly factorDampening: number;
  readonly actOrder: boolean;
  /** Path of the layer, for messages. */
  readonly path: string;
}

export interface SharedHessian {
  /** The Gram matrix with λ on its diagonal. */
  readonly hessian: Float32Array;
  readonly factor: GptqFactor;
  /** Inputs that were 0 in every row of the calibration: only λ ties their weights to what they were. */
  readonly deadInputs: number;
}

interface Entry extends HessianRequest {
  readonly made: Promise<SharedHessian>;
}

/** The last one of each Gram matrix, for as long as somebody holds the matrix. */
const latest = new WeakMap<Tensor, Entry>();

const keys = ['backend', 'dampening', 'factorDampening', 'actOrder'] as const;

/** @throws GRAM_NOT_FINITE naming the layer when the calibration overflowed; the errors of `gptqFactor`. */
export async function sharedHessian(request: HessianRequest): Promise<SharedHessian> {
  const known = latest.get(request.gram);
  if (known && keys.every((key) => known[key] === request[key])) return known.made;
  const made = damp(request);
  latest.set(request.gram, { ...request, made });
  return made;
}

async function damp({ backend, gram, dampening, factorDampening, actOrder, path }: HessianRequest): Promise<SharedHessian> {
  const n = gram.shape[0];
  const hessian = (await readFloats(gram)).slice();
  if (!hessian.every(Number.isFinite)) {
    throw new LowbitError(
      'GRAM_NOT_FINITE',
      `${path}: the inputs of this layer hold NaN or Infinity; check the model and the calibration text`,
    );
  }
  const diagonal = Float64Array.from({ length: n }, (_, i) => hessian[i * (n + 1)]);
  // A matrix of zeros has no scale of its own; every error then counts alike.
  const lambda = dampening * (diagonal.reduce((total, value) => total + value, 0) / n || 1);
  for (let i = 0; i < n; i++) hessian[i * (n + 1)] += lambda;
  const factor = await gptqFactor(backend, hessian, n, { dampening: factorDampening, actOrder });
  return { hessian, factor, deadInputs: diagonal.filter((value) => value === 0).length };
}
