// Orthogonal maps of a layer's input as plain data, and as graph nodes.
import { formatShape, LowbitError, matmul, mul, reshape, type Tensor, tensor } from '@lowbit/core';
import { type HadamardPlan, type HadamardTransform, hadamardTransform } from '@lowbit/linalg';

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

interface RotateOptions {
  /** Multiply by the transpose, which is the inverse. */
  readonly transpose?: boolean;
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

/** x · R (or x · Rᵀ, its inverse) over the last axis. @throws ROTATION when the rotation does not fit it. */
export function rotateFeatures(x: Tensor, rotation: Rotation, { transpose = false }: RotateOptions = {}): Tensor {
  const features = x.shape[x.rank - 1];
  checkRotation(rotation, features);
  const inner = features / rotationSize(rotation);
  if (rotation.kind === 'matrix') return reshape(multiply(x, rotation.matrix, inner, transpose), x.shape);
  const { size, blocks, factor } = rotation;
  const order = factor?.shape[0] ?? 1;
  const power = size / blocks / order;
  // Small dense products are faster than core's butterflies; Sylvester's part is symmetric.
  const y = sylvester(power)(reshape(x, [x.size / (power * order * inner), power, order * inner]), { axis: 1 });
  return reshape(factor ? multiply(y, mul(factor, 1 / Math.sqrt(order)), inner, transpose) : y, x.shape);
}

/** By their order. They are constants, and making one takes longer than a token of a small model has for it. */
const sylvesters = new Map<number, HadamardTransform>();

function sylvester(power: number): HadamardTransform {
  const known = sylvesters.get(power) ?? hadamardTransform({ size: power, power, blocks: 1 });
  sylvesters.set(power, known);
  return known;
}

/** Every [order, inner] of x from the left by the matrix transposed, or as it is: its rows are what is mixed. */
function multiply(x: Tensor, matrix: Tensor, inner: number, transpose: boolean): Tensor {
  const [order] = matrix.shape;
  const rows = x.size / (order * inner);
  return inner === 1
    ? matmul(reshape(x, [rows, order]), matrix, { transposeB: transpose })
    : matmul(matrix, reshape(x, [rows, order, inner]), { transposeA: !transpose });
}
