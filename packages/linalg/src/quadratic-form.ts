// Quadratic forms e_r = x_r H x_rᵀ of many rows at once: half a matrix product by symmetry, and never a product of rows with rows.
import { add, type Backend, LowbitError, matmul, mul, slice, sum, type Tensor, tensor } from '@lowbit/core';
import { transientCompute } from './compute.js';
import { cut } from './submatrix.js';

/**
 * A symmetric H [n, n] cut for quadratic forms. x H xᵀ = Σ_j Σ_{i≤j} x_i H̃_ij x_jᵀ over blocks of columns, H̃ being H on the diagonal and 2H
 * above it: with 8 blocks 9/16 of the work of x·H.
 */
export interface QuadraticForm {
  readonly size: number;
  /** H̃ of column block j with the rows down to its diagonal block: [end_j, end_j − start_j]. */
  readonly columns: readonly Tensor[];
}

export interface QuadraticFormOptions {
  /** Column blocks; speed only. */
  readonly blocks?: number;
}

const DEFAULT_BLOCKS = 8;
/** Narrower blocks would cost more in handling than they save in work. */
const NARROWEST_BLOCK = 64;
/** Rows of one evaluation: their intermediate values fit the processor's outer cache. */
const PANEL_ROWS = 512;

/** Cuts a symmetric matrix [n, n], of which the upper triangle is read up to whole blocks. The matrix is copied. */
export function quadraticForm(matrix: Float32Array, n: number, { blocks = DEFAULT_BLOCKS }: QuadraticFormOptions = {}): QuadraticForm {
  if (matrix.length !== n * n)
    throw new LowbitError('SHAPE_DATA', `quadraticForm: ${matrix.length} values do not fill a matrix [${n}, ${n}]`);
  const width = Math.max(NARROWEST_BLOCK, Math.ceil(n / blocks));
  const columns: Tensor[] = [];
  for (let start = 0; start < n; start += width) {
    const count = Math.min(width, n - start);
    const block = cut(matrix, n, 0, start, start + count, count).slice();
    for (let i = 0; i < start * count; i++) block[i] *= 2;
    columns.push(tensor(block, [start + count, count]));
  }
  return { size: n, columns };
}

/** The forms of a panel of rows, [rows, n] → [rows]; the panel may be an expression. */
export function quadraticFormGraph({ columns }: QuadraticForm, panel: Tensor): Tensor {
  let total: Tensor | undefined;
  for (const block of columns) {
    const [end, width] = block.shape;
    const product = matmul(slice(panel, 1, 0, end), block);
    const part = sum(mul(product, slice(panel, 1, end - width, end)), [1]);
    total = total ? add(total, part) : part;
  }
  return total as Tensor;
}

/**
 * The forms of all rows, [rows]. `panelOf(first, count)` gives rows [first, first + count) as a tensor [count, n]; every panel has the same
 * number of rows, so that one program serves them all: the last may begin within the one before.
 */
export async function rowQuadraticForms(
  backend: Backend,
  form: QuadraticForm,
  rows: number,
  panelOf: (first: number, count: number) => Tensor,
): Promise<Float64Array> {
  const result = new Float64Array(rows);
  const count = Math.min(rows, PANEL_ROWS);
  const compute = transientCompute(backend);
  for (let next = 0; next < rows; next += count) {
    const first = Math.min(next, rows - count);
    await compute([quadraticFormGraph(form, panelOf(first, count))], (forms) => result.set(forms, first));
  }
  return result;
}
