// Roots of the inputs' second moment: in which norm a correction measures the error of a weight.
import { type Backend, LowbitError, matmul, mul, type Tensor, tensor } from '@lowbit/core';
import { cholesky, transientCompute } from '@lowbit/linalg';

/**
 * S with S Sᵀ = G, [in, in]: ‖E S‖²_F = tr(E G Eᵀ) is the squared error at the outputs of inputs with the Gram matrix G = XᵀX. Any root
 * gives the same corrections, and so does any multiple. One root serves every Linear that reads the same inputs.
 */
export type InputRoot =
  | { readonly kind: 'identity' }
  /** diag(scales), [in]. */
  | { readonly kind: 'diagonal'; readonly scales: Float32Array }
  /** L of G + λI, [in, in]; `dampening` is λ relative to the mean diagonal. */
  | { readonly kind: 'triangular'; readonly lower: Float32Array; readonly dampening: number };

/** Plain Frobenius norm of the weight's error: LoRC in ZeroQuant-V2 (arXiv 2303.08302), LQER (arXiv 2402.02446). */
export const identityRoot: InputRoot = { kind: 'identity' };

/** LQER's smallest magnitude of an input. */
const LEAST_MAGNITUDE = 1e-4;

/** L²QER (arXiv 2402.02446): the statistic `peakMeanMagnitude` [in], not below 1e-4, over √(min · max). */
export function magnitudeRoot(peakMeans: Float32Array): InputRoot {
  checkStatistic('magnitudeRoot', peakMeans);
  const clamped = peakMeans.map((value) => Math.max(value, LEAST_MAGNITUDE));
  const ends = clamped.reduce(([least, most], value) => [Math.min(least, value), Math.max(most, value)], [Infinity, 0]);
  const center = Math.sqrt(ends[0]) * Math.sqrt(ends[1]);
  return { kind: 'diagonal', scales: clamped.map((value) => value / center) };
}

/** QERA-approx (arXiv 2410.06040, theorem 2): s_i = √G_ii, from the statistic `energy` [in], or the diagonal of `gram`. */
export function energyRoot(energies: Float32Array): InputRoot {
  checkStatistic('energyRoot', energies);
  return { kind: 'diagonal', scales: energies.map(Math.sqrt) };
}

/**
 * QERA-exact (arXiv 2410.06040, theorem 1) and EoRA (arXiv 2410.21271): the Cholesky factor of the statistic `gram` [in, in], damped as
 * little as float32 allows where it is singular (dead inputs, fewer rows than inputs).
 * @param dampening added to the diagonal, relative to its mean; 0, the exact objective, by default. Too few rows overfit: with half a row
 * an input, 0.01 took the fresh error of a 2-bit GPTQ layer from 0.313 to 0.294 and 0.1 to 0.279, where the uncoupled `energyRoot` gives
 * 0.276; with eight rows an input 0.01 changes nothing (0.194) and 0.1 costs 3%.
 * @throws SHAPE_DATA, and CHOLESKY_INPUT or CHOLESKY_FAILED for what is no Gram matrix.
 */
export async function gramRoot(backend: Backend, gram: Float32Array, inFeatures: number, dampening = 0): Promise<InputRoot> {
  return { kind: 'triangular', ...(await cholesky(backend, gram, inFeatures, { dampening })) };
}

/** E S for an error [out, in], as an array of its own or E itself. @throws SHAPE_ROOT when the root is of another number of inputs. */
export async function timesRoot(
  backend: Backend,
  error: Float32Array,
  [outFeatures, inFeatures]: readonly [number, number],
  root: InputRoot,
): Promise<Float32Array> {
  if (root.kind === 'identity') return error;
  const isDiagonal = root.kind === 'diagonal';
  const values = isDiagonal ? root.scales : root.lower;
  if (values.length !== inFeatures ** (isDiagonal ? 1 : 2)) {
    throw new LowbitError(
      'SHAPE_ROOT',
      `timesRoot: a ${root.kind} root of ${values.length} values does not fit ${inFeatures} inputs; make it of the layer's own inputs`,
    );
  }
  const e = tensor(error, [outFeatures, inFeatures]);
  const product: Tensor = isDiagonal ? mul(e, tensor(values, [1, inFeatures])) : matmul(e, tensor(values, [inFeatures, inFeatures]));
  let result = new Float32Array(0);
  await transientCompute(backend)([product], (weighted) => {
    result = weighted.slice();
  });
  return result;
}

/** ‖E S‖_F for an error [out, in]. @throws SHAPE_ROOT when the root is of another number of inputs. */
export async function rootNorm(backend: Backend, error: Float32Array, shape: readonly [number, number], root: InputRoot): Promise<number> {
  const weighted = await timesRoot(backend, error, shape, root);
  return Math.sqrt(weighted.reduce((total, value) => total + value * value, 0));
}

function checkStatistic(where: string, values: Float32Array): void {
  const bad = values.findIndex((value) => !(value >= 0 && value < Infinity));
  if (bad >= 0) {
    throw new LowbitError('ROOT_INPUT', `${where}: input ${bad} has ${values[bad]}; give a statistic that is finite and not negative`);
  }
}
