// Orthogonal maps of a layer's input as plain data, and as graph nodes.
import { formatShape, hadamard, LowbitError, matmul, reshape, type Tensor, tensor, transpose } from '@lowbit/core';
import type { HadamardPlan } from '@lowbit/linalg';

/** I(blocks) ⊗ Sylvester(2^k) ⊗ factor, orthonormal: blocks · 2^k · order(factor) = size. */
export interface HadamardRotation {
  readonly kind: 'hadamard';
  readonly size: number;
  /** Independent transforms of consecutive stretches; 1 for one of the whole size. */
  readonly blocks: number;
  /** A Hadamard matrix [order, order] of ±1; absent where size / blocks is a power of two. */
  readonly factor?: Tensor | undefined;
}

export interface MatrixRotation {
  readonly kind: 'matrix';
  /** Orthogonal, [size, size]. */
  readonly matrix: Tensor;
}

/**
 * An orthogonal matrix R [size, size] over features x [..., size · inner], seen as [..., size, inner]: stretches of `inner` features
 * are mixed with each other and stay as they are within. All features for inner 1; whole heads for a size of the head count.
 */
export type Rotation = HadamardRotation | MatrixRotation;

/** A plan of @lowbit/linalg as a rotation. */
export function hadamardRotation({ size, blocks, factor }: HadamardPlan): HadamardRotation {
  return { kind: 'hadamard', size, blocks, factor: factor && tensor(factor.entries, [factor.order, factor.order]) };
}

/** Order of a rotation's matrix. */
function rotationSize(rotation: Rotation): number {
  return rotation.kind === 'hadamard' ? rotation.size : rotation.matrix.shape[0];
}

/** @throws ROTATION when the parts do not make a matrix, or none that fits this many features. */
export function checkRotation(rotation: Rotation, features: number): void {
  const fail = (what: string): LowbitError => new LowbitError('ROTATION', `a rotation of ${features} features: ${what}`);
  const square = rotation.kind === 'hadamard' ? rotation.factor : rotation.matrix;
  if (square && (square.rank !== 2 || square.shape[0] !== square.shape[1]))
    throw fail(`its matrix must be square, got ${formatShape(square.shape)}`);
  const size = rotationSize(rotation);
  if (!(Number.isInteger(size) && size > 0 && features % size === 0)) throw fail(`an order of ${size} does not divide them`);
  if (rotation.kind === 'matrix') return;
  const power = size / rotation.blocks / (rotation.factor?.shape[0] ?? 1);
  if (!Number.isInteger(power) || !Number.isInteger(Math.log2(power))) {
    const factor = rotation.factor ? ` and a factor of order ${rotation.factor.shape[0]}` : '';
    throw fail(`an order of ${size} in ${rotation.blocks} blocks${factor} leaves ${power}, which is no power of two`);
  }
}

/**
 * x · R (or x · Rᵀ, its inverse) over the last axis. @throws ROTATION when the rotation does not fit it.
 */
export function rotateFeatures(x: Tensor, rotation: Rotation, { transpose: isTransposed = false } = {}): Tensor {
  const features = x.shape[x.rank - 1];
  checkRotation(rotation, features);
  const size = rotationSize(rotation);
  const inner = features / size;
  const rows = x.size / features;
  if (rotation.kind === 'matrix') {
    const { matrix } = rotation;
    const rotated =
      inner === 1
        ? matmul(reshape(x, [rows, size]), matrix, { transposeB: isTransposed })
        : matmul(matrix, reshape(x, [rows, size, inner]), { transposeA: !isTransposed });
    return reshape(rotated, x.shape);
  }
  const { blocks, factor } = rotation;
  // Sylvester's part is symmetric.
  const oriented = factor && isTransposed ? transpose(factor, [1, 0]) : factor;
  if (inner === 1) return reshape(hadamard(reshape(x, [rows * blocks, size / blocks]), oriented), x.shape);
  const last = transpose(reshape(x, [rows * blocks, size / blocks, inner]), [0, 2, 1]);
  return reshape(transpose(hadamard(last, oriented), [0, 2, 1]), x.shape);
}
