// The orthonormal Walsh-Hadamard transform of sizes 2^k·m, as a chain of small dense products on a backend.
import { type Backend, formatShape, LowbitError, matmul, reshape, resolveAxis, sizeOf, type Tensor, tensor } from '@lowbit/core';
import { transientCompute } from './compute.js';
import { directHadamard, hadamardMatrix } from './hadamard-matrix.js';

/** How a transform of some size is put together: I(blocks) ⊗ Sylvester(power) ⊗ factor. */
export interface HadamardPlan {
  readonly size: number;
  /** 2^k, the order of the Sylvester part. */
  readonly power: number;
  /** Hadamard matrix [order, order] of ±1, absent when the size is a power of two. The `factor` of core's `hadamard` operator. */
  readonly factor?: { readonly order: number; readonly entries: Float32Array };
  /**
   * 1 for a Hadamard transform of the whole size. More when there is none and 'block-diagonal' was allowed: that many independent
   * transforms of consecutive stretches, orthonormal but mixing less.
   */
  readonly blocks: number;
}

export interface HadamardPlanOptions {
  /** What to do for a size without a known Hadamard matrix: throw (default), or transform its power-of-two stretches one by one. */
  readonly fallback?: 'error' | 'block-diagonal';
}

/**
 * The smallest factor with size = 2^k·order. Core's `hadamard` operator with the plan's factor applies the same matrix when
 * `blocks` is 1.
 * @throws HADAMARD_SIZE where there is none (sizes with an odd part and fewer than two factors of two, among others).
 */
export function planHadamard(size: number, { fallback = 'error' }: HadamardPlanOptions = {}): HadamardPlan {
  if (!Number.isInteger(size) || size < 1)
    throw new LowbitError('HADAMARD_SIZE', `planHadamard: ${size} is not a size; pass a positive integer`);
  const largest = size & -size;
  if (largest === size) return { size, power: size, blocks: 1 };
  for (let power = largest; power >= 1; power /= 2) {
    const found = directHadamard(size / power);
    if (found) return { size, power, factor: { order: found.order, entries: Float32Array.from(found.entries) }, blocks: 1 };
  }
  if (fallback === 'block-diagonal') return { size, power: largest, blocks: size / largest };
  throw new LowbitError(
    'HADAMARD_SIZE',
    `planHadamard: no Hadamard matrix of order ${size} is known here; allow fallback 'block-diagonal' (${size / largest} blocks of ${largest}) or rotate with a random orthogonal matrix`,
  );
}

export interface WalshHadamardOptions {
  /** Multiply by the transpose, which is the inverse. */
  readonly transpose?: boolean;
}

export interface HadamardAxisOptions extends WalshHadamardOptions {
  /** The axis of the plan's size; the last one by default. */
  readonly axis?: number;
}

/** x [..., size, ...] → the same shape: y[..., j, ...] = Σ_i x[..., i, ...] H[i, j] over one axis. */
export type HadamardTransform = (x: Tensor, options?: HadamardAxisOptions) => Tensor;

/** Order of the dense products that the power of two is split into: large enough for a matrix product to pay. */
const DENSE_POWER = 64;
/** Elements transformed by one evaluation. */
const PANEL = 2 ** 20;

/**
 * The plan's orthonormal matrix H as a graph function. Its factors are leaves that all graphs made with it share. Several times faster
 * than butterflies where rows are long: a size of 4096 is two products with matrices of order 64.
 */
export function hadamardTransform(plan: HadamardPlan): HadamardTransform {
  const factors = denseFactors(plan);
  return (x, { axis = -1, transpose = false } = {}) => {
    const at = resolveAxis('hadamardTransform', axis, x.rank);
    if (x.shape[at] !== plan.size)
      throw new LowbitError('SHAPE_DATA', `hadamardTransform: axis ${at} of ${formatShape(x.shape)} is not the plan's ${plan.size}`);
    return multiplyKronecker(x, sizeOf(x.shape.slice(at + 1)), factors, transpose);
  };
}

/** Rows of x [rows, size] times the plan's orthonormal matrix (or its transpose): [rows, size], x is left as it is. */
export async function walshHadamard(
  backend: Backend,
  x: Float32Array,
  rows: number,
  plan: HadamardPlan,
  { transpose = false }: WalshHadamardOptions = {},
): Promise<Float32Array> {
  const { size } = plan;
  if (x.length !== rows * size)
    throw new LowbitError('SHAPE_DATA', `walshHadamard: ${x.length} values do not fill ${rows} rows of ${size}`);
  const transform = hadamardTransform(plan);
  const compute = transientCompute(backend);
  const result = new Float32Array(x.length);
  const panelRows = Math.max(1, Math.floor(PANEL / size));
  for (let start = 0; start < rows; start += panelRows) {
    const count = Math.min(panelRows, rows - start);
    const panel = tensor(x.subarray(start * size, (start + count) * size), [count, size]);
    await compute([transform(panel, { transpose })], (y) => result.set(y, start * size));
  }
  return result;
}

/** The orthonormal matrices whose Kronecker product is one block of the plan, outermost first. */
function denseFactors({ power, factor }: HadamardPlan): Tensor[] {
  const factors: Tensor[] = [];
  const append = (order: number, entries: ArrayLike<number>): void => {
    const scale = 1 / Math.sqrt(order);
    factors.push(
      tensor(
        Float32Array.from(entries, (entry) => entry * scale),
        [order, order],
      ),
    );
  };
  for (let rest = power; rest > 1; ) {
    const order = Math.min(rest, DENSE_POWER);
    append(order, hadamardMatrix(order).entries);
    rest /= order;
  }
  if (factor) append(factor.order, factor.entries);
  return factors;
}

/** The axis with `behind` elements behind it times I ⊗ F₁ ⊗ F₂ ⊗ …, one product a factor over its own part of the axis. */
function multiplyKronecker(x: Tensor, behind: number, factors: readonly Tensor[], transpose: boolean): Tensor {
  let y = x;
  let inner = behind;
  for (const factor of [...factors].reverse()) {
    const order = factor.shape[0];
    y =
      inner === 1
        ? matmul(reshape(y, [x.size / order, order]), factor, { transposeB: transpose })
        : matmul(factor, reshape(y, [x.size / (order * inner), order, inner]), { transposeA: !transpose });
    inner *= order;
  }
  return reshape(y, x.shape);
}
