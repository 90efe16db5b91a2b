// The GPTQ solver: codes on a fixed grid that minimize tr((W − Ŵ)H(W − Ŵ)ᵀ) greedily, one input at a time with error feedback.
// Frantar et al., arXiv 2210.17323; grids are fixed before the sweep and travel with their columns ("static groups").
import { type Backend, dequantize, LowbitError, matmul, mul, sub, sum, tensor } from '@lowbit/core';
import { cut, inverseUpperFactor, splitPoint, type TransientCompute, transientCompute } from '@lowbit/linalg';
import { quantizeColumns, type SweepPanel } from './gptq-columns.js';
import type { Grid } from './grid.js';

export interface GptqFactorOptions {
  /** λ added to the Gram matrix's diagonal, relative to the mean over live inputs; 0.01 by default. Raised tenfold while it is singular. */
  readonly dampening?: number;
  /** Sweep the inputs by falling Gram diagonal instead of in their order; groups keep their inputs. */
  readonly actOrder?: boolean;
  /** Leading inputs that stay in full precision: they are neither quantized nor do they take part in the error feedback. */
  readonly frozenInputs?: number;
}

/** What the sweep needs of the inputs' Gram matrix. One serves every weight that reads the same inputs, and every grid. */
export interface GptqFactor {
  /** Width of the weight, frozen inputs included. */
  readonly inFeatures: number;
  readonly frozenInputs: number;
  /** Gram matrix of the quantized inputs as it was given, [n, n] with n = inFeatures − frozenInputs. */
  readonly gram: Float32Array;
  /** Quantized input (0 … n − 1) at each step of the sweep. */
  readonly order: Int32Array;
  /** U with UᵀU = (H + λI)⁻¹ in sweep order, upper triangular [n, n]. */
  readonly upper: Float32Array;
  /** The relative λ that was used: the one asked for, or more. */
  readonly dampening: number;
  /** Quantized inputs that were 0 in every row of the calibration. Nothing is known about them, so they are rounded to nearest. */
  readonly deadInputs: number;
}

export interface GptqResult {
  /** [out, n] over the quantized inputs, in their own order. */
  readonly codes: Uint8Array;
  /** tr((W − Ŵ)H(W − Ŵ)ᵀ) / tr(WHWᵀ) over the quantized inputs, H without dampening; 0 when nothing could be wrong. */
  readonly relativeError: number;
  readonly dampening: number;
  readonly deadInputs: number;
}

/** The part of a grid that the solver reads. Scale and offset are [out, n / groupSize]; a scale may be negative. */
export type GptqGrid = Pick<Grid, 'bits' | 'groupSize' | 'scale' | 'offset'>;

export interface GptqSolveOptions {
  /** Inputs rounded one by one on the host between matrix products; speed only. */
  readonly blockSize?: number;
}

const DEFAULT_BLOCK = 32;
/** Outputs swept together: rows are independent, and this bounds the memory of wide layers. */
const PANEL_OUTPUTS = 4096;
/** Outputs whose error is measured by one evaluation. */
const ERROR_OUTPUTS = 1024;

/**
 * Factors a Gram matrix XᵀX [in, in] for `gptqSolve`.
 * @throws SHAPE_GRAM, GPTQ_FROZEN for a frozen count that leaves nothing, and the errors of linalg's `cholesky` for a matrix that is no
 * Gram matrix.
 */
export async function gptqFactor(
  backend: Backend,
  gram: Float32Array,
  inFeatures: number,
  { dampening = 0.01, actOrder = false, frozenInputs = 0 }: GptqFactorOptions = {},
): Promise<GptqFactor> {
  if (gram.length !== inFeatures * inFeatures)
    throw new LowbitError('SHAPE_GRAM', `gptqFactor: ${gram.length} values do not fill a Gram matrix of ${inFeatures} inputs`);
  if (!(Number.isInteger(frozenInputs) && frozenInputs >= 0 && frozenInputs < inFeatures)) {
    throw new LowbitError('GPTQ_FROZEN', `gptqFactor: ${frozenInputs} of ${inFeatures} inputs are frozen; leave at least one to quantize`);
  }
  const n = inFeatures - frozenInputs;
  const live = frozenInputs === 0 ? gram : cut(gram, inFeatures, frozenInputs, frozenInputs, n, n);
  const diagonal = Float64Array.from({ length: n }, (_, i) => live[i * (n + 1)]);
  const dead = [...diagonal.keys()].filter((i) => diagonal[i] === 0);
  const order = Int32Array.from(diagonal.keys());
  if (actOrder) order.sort((a, b) => diagonal[b] - diagonal[a] || a - b);
  const { upper, dampening: used } = await inverseUpperFactor(backend, withoutZeros(live, diagonal, dead), n, { dampening, order });
  return { inFeatures, frozenInputs, gram: live, order, upper, dampening: used, deadInputs: dead.length };
}

/** Dead inputs get the mean diagonal: uncoupled from all others, they are rounded to nearest and do not change the dampening. */
function withoutZeros(gram: Float32Array, diagonal: Float64Array, dead: readonly number[]): Float32Array {
  if (dead.length === 0 || dead.length === diagonal.length) return gram;
  const mean = diagonal.reduce((total, value) => total + value, 0) / (diagonal.length - dead.length);
  const filled = gram.slice();
  for (const i of dead) filled[i * (diagonal.length + 1)] = mean;
  return filled;
}

/**
 * Codes for a weight [out, in] (frozen inputs included) on a grid over its quantized inputs, and the error they leave.
 * @throws SHAPE_WEIGHT or SHAPE_GROUPS when weight, grid and factor do not fit.
 */
export async function gptqSolve(
  backend: Backend,
  factor: GptqFactor,
  weight: Float32Array,
  grid: GptqGrid,
  options: GptqSolveOptions = {},
): Promise<GptqResult> {
  const codes = await gptqCodes(backend, factor, weight, grid, options);
  const relativeError = await relativeGramError(backend, factor, weight, codes, grid);
  return { codes, relativeError, dampening: factor.dampening, deadInputs: factor.deadInputs };
}

/** The sweep of `gptqSolve` alone, for callers that measure errors their own way: codes [out, n] of the quantized inputs, in their own order. */
export async function gptqCodes(
  backend: Backend,
  factor: GptqFactor,
  weight: Float32Array,
  grid: GptqGrid,
  { blockSize = DEFAULT_BLOCK }: GptqSolveOptions = {},
): Promise<Uint8Array> {
  const outFeatures = checkShapes(factor, weight, grid);
  const n = factor.order.length;
  const codes = new Uint8Array(outFeatures * n);
  const compute = transientCompute(backend);
  const groupOf = factor.order.map((input) => Math.floor(input / grid.groupSize));
  for (let first = 0; first < outFeatures; first += PANEL_OUTPUTS) {
    const outputs = Math.min(PANEL_OUTPUTS, outFeatures - first);
    const panel: SweepPanel = {
      outputs,
      weight: gatherColumns(
        weight,
        factor.inFeatures,
        first,
        outputs,
        factor.order.map((input) => input + factor.frozenInputs),
      ),
      error: new Float32Array(n * outputs),
      codes: new Uint8Array(n * outputs),
      scale: transposeRows(grid.scale, first, outputs, n / grid.groupSize),
      offset: transposeRows(grid.offset, first, outputs, n / grid.groupSize),
      groupOf,
      maxCode: 2 ** grid.bits - 1,
      upper: factor.upper,
    };
    await sweep(compute, panel, 0, n, blockSize);
    scatterColumns(panel.codes, outputs, factor.order, codes.subarray(first * n, (first + outputs) * n));
  }
  return codes;
}

function checkShapes({ inFeatures, order }: GptqFactor, weight: Float32Array, { groupSize, scale, offset }: GptqGrid): number {
  const outFeatures = weight.length / inFeatures;
  if (!Number.isInteger(outFeatures))
    throw new LowbitError('SHAPE_WEIGHT', `gptqSolve: ${weight.length} weights are not rows of ${inFeatures} inputs`);
  const groups = (outFeatures * order.length) / groupSize;
  if (order.length % groupSize !== 0 || scale.length !== groups || offset.length !== groups) {
    throw new LowbitError(
      'SHAPE_GROUPS',
      `gptqSolve: ${scale.length} scales and ${offset.length} offsets do not fit ${outFeatures} outputs with ${order.length} quantized inputs in groups of ${groupSize}`,
    );
  }
  return outFeatures;
}

/**
 * Sweeps `size` inputs from `start`: one half, then the feedback of its errors on the other half as one product,
 * W₂ ← W₂ − U₁₂ᵀE₁, then the other half. Blocks are rounded on the host.
 */
async function sweep(compute: TransientCompute, panel: SweepPanel, start: number, size: number, block: number): Promise<void> {
  if (size <= block) {
    quantizeColumns(panel, start, size);
    return;
  }
  const { outputs, upper, weight, error } = panel;
  const inputs = panel.groupOf.length;
  const first = splitPoint(size, block);
  const rest = size - first;
  const middle = start + first;
  await sweep(compute, panel, start, first, block);
  const coupling = tensor(cut(upper, inputs, start, middle, first, rest), [first, rest]);
  const errors = tensor(error.subarray(start * outputs, middle * outputs), [first, outputs]);
  const open = tensor(weight.subarray(middle * outputs, (middle + rest) * outputs), [rest, outputs]);
  await compute([sub(open, matmul(coupling, errors, { transposeA: true }))], (corrected) => weight.set(corrected, middle * outputs));
  await sweep(compute, panel, middle, rest, block);
}

/** Rows handled together by the transpositions, so that their cache lines are used whole. */
const TILE = 16;

/** Columns `order` of rows [first, first + rows) of a matrix, as the rows of the result: [order.length, rows]. */
function gatherColumns(matrix: Float32Array, stride: number, first: number, rows: number, order: Int32Array): Float32Array {
  const result = new Float32Array(order.length * rows);
  for (let tile = 0; tile < rows; tile += TILE) {
    const end = Math.min(rows, tile + TILE);
    for (let i = 0; i < order.length; i++) {
      for (let r = tile; r < end; r++) result[i * rows + r] = matrix[(first + r) * stride + order[i]];
    }
  }
  return result;
}

/** The inverse of `gatherColumns` for codes: row i of `codes` [order.length, rows] becomes column order[i] of `target`. */
function scatterColumns(codes: Uint8Array, rows: number, order: Int32Array, target: Uint8Array): void {
  const n = order.length;
  for (let tile = 0; tile < rows; tile += TILE * 4) {
    const end = Math.min(rows, tile + TILE * 4);
    for (let i = 0; i < n; i++) {
      const column = order[i];
      for (let r = tile; r < end; r++) target[r * n + column] = codes[i * rows + r];
    }
  }
}

/** Rows [first, first + rows) of a matrix with `columns` columns, transposed: [columns, rows]. */
function transposeRows(matrix: Float32Array, first: number, rows: number, columns: number): Float32Array {
  return gatherColumns(
    matrix,
    columns,
    first,
    rows,
    Int32Array.from({ length: columns }, (_, i) => i),
  );
}

/**
 * tr((W − Ŵ)H(W − Ŵ)ᵀ) / tr(WHWᵀ) over the quantized inputs, for codes [out, n] from wherever; 0 when nothing could be wrong.
 * Arguments as for `gptqSolve`.
 */
export async function relativeGramError(
  backend: Backend,
  { gram, inFeatures, frozenInputs }: GptqFactor,
  weight: Float32Array,
  codes: Uint8Array,
  { groupSize, scale, offset }: GptqGrid,
): Promise<number> {
  const n = inFeatures - frozenInputs;
  const outFeatures = weight.length / inFeatures;
  const compute = transientCompute(backend);
  const h = tensor(gram, [n, n]);
  let error = 0;
  let total = 0;
  for (let first = 0; first < outFeatures; first += ERROR_OUTPUTS) {
    const rows = Math.min(ERROR_OUTPUTS, outFeatures - first);
    const part = <A extends Float32Array | Uint8Array>(data: A, width: number) =>
      tensor(data.subarray(first * width, (first + rows) * width), [rows, width]);
    const w = tensor(cut(weight, inFeatures, first, frozenInputs, rows, n), [rows, n]);
    const difference = sub(w, dequantize(part(codes, n), part(scale, n / groupSize), part(offset, n / groupSize)));
    await compute([sum(mul(matmul(difference, h), difference), [1]), sum(mul(matmul(w, h), w), [1])], (errors, totals) => {
      for (let r = 0; r < rows; r++) {
        error += errors[r];
        total += totals[r];
      }
    });
  }
  return total > 0 ? Math.max(0, error) / total : 0;
}
