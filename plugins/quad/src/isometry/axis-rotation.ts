// Orthogonal matrices over one axis of a graph: Hadamard with random signs, random, or none, and what to do for sizes without a Hadamard.
import { type Backend, matmul, mul, type Rng, reshape, resolveAxis, sizeOf, type Tensor, tensor } from '@lowbit/core';
import { type HadamardPlan, hadamardTransform, planHadamard, qr } from '@lowbit/linalg';
import { hadamardRotation, type Rotation } from '@lowbit/quant';

/** An orthogonal matrix R [size, size]. */
export interface AxisRotation {
  readonly size: number;
  /** How R is made; 'block-diagonal' is a Hadamard matrix for each stretch of a power of two. */
  readonly form: 'hadamard' | 'block-diagonal' | 'random' | 'none';
  /** R = diag(signs)·Hadamard/√n, where R is made of one; signs of none are all 1. */
  readonly plan?: HadamardPlan;
  readonly signs?: Float32Array;
  /** R itself, [size, size], where it was drawn. */
  readonly matrix?: Float32Array;
  /** x [..., size, ...] → the same shape: y[..., j, ...] = Σ_i x[..., i, ...] R[i, j] over one axis. */
  apply(x: Tensor, axis: number): Tensor;
}

/** What to do for a size without a known Hadamard matrix. */
export type Fallback = 'block-diagonal' | 'random' | 'error';

/** R = I. */
export function noRotation(size: number): AxisRotation {
  return { size, form: 'none', apply: (x) => x };
}

/** R = diag(signs)·Hadamard/√n. */
export function hadamardAxis(plan: HadamardPlan, signs?: Float32Array): AxisRotation {
  const { size, blocks } = plan;
  const transform = hadamardTransform(plan);
  const leaf = signs && tensor(signs);
  return {
    size,
    form: blocks === 1 ? 'hadamard' : 'block-diagonal',
    plan,
    ...(signs && { signs }),
    apply: (x, axis) => transform(leaf ? mul(x, along(leaf, x, axis)) : x, { axis }),
  };
}

/** A matrix drawn uniformly from all orthogonal ones. */
export async function randomAxis(backend: Backend, size: number, rng: Rng): Promise<AxisRotation> {
  const { q: matrix } = await qr(backend, rng.normal(size * size), [size, size]);
  const leaf = tensor(matrix, [size, size]);
  return { size, form: 'random', matrix, apply: (x, axis) => multiplyAxis(x, leaf, axis) };
}

/** What `planAxis` decides by, and draws from. */
export interface AxisRotationRequest {
  readonly backend: Backend;
  readonly fallback: Fallback;
  /** Of signs and matrices; addresses below it are 'signs' and 'matrix'. */
  readonly rng: Rng;
  /** Random signs before the Hadamard matrix: free where the rotation goes into weights. */
  readonly hasSigns: boolean;
}

/** A Hadamard rotation of the size, or what the fallback says. @throws HADAMARD_SIZE for fallback 'error'. */
export async function hadamardOrFallback(size: number, { backend, fallback, rng, hasSigns }: AxisRotationRequest): Promise<AxisRotation> {
  const plan = planHadamard(size, { fallback: fallback === 'error' ? 'error' : 'block-diagonal' });
  if (plan.blocks > 1 && fallback === 'random') return randomAxis(backend, size, rng.at('matrix'));
  return hadamardAxis(plan, hasSigns ? rng.at('signs').signs(size) : undefined);
}

/** The rotation as data of a `RotatedLinear`. It must have no signs. */
export function onlineRotation({ plan, matrix, size }: AxisRotation): Rotation {
  if (matrix) return { kind: 'matrix', matrix: tensor(matrix, [size, size]) };
  return hadamardRotation(plan as HadamardPlan);
}

/** A vector over one axis of x, with size 1 on those behind it. */
function along(vector: Tensor, x: Tensor, axis: number): Tensor {
  const at = resolveAxis('along', axis, x.rank);
  return reshape(vector, [vector.size, ...x.shape.slice(at + 1).map(() => 1)]);
}

function multiplyAxis(x: Tensor, matrix: Tensor, axis: number): Tensor {
  const at = resolveAxis('multiplyAxis', axis, x.rank);
  const size = x.shape[at];
  const behind = sizeOf(x.shape.slice(at + 1));
  const outer = x.size / (size * behind);
  const y =
    behind === 1 ? matmul(reshape(x, [outer, size]), matrix) : matmul(matrix, reshape(x, [outer, size, behind]), { transposeA: true });
  return reshape(y, x.shape);
}
