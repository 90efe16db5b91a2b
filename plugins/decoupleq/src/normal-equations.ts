// The S-step's sums as one graph a panel of rows: residual products, and the normal equations in block form. The largest value is one
// [rows, in] product: nothing of size out · groups · in is ever formed.
import { add, cast, concat, matmul, mul, pad, reshape, slice, sub, sum, type Tensor, tensor, transpose } from '@lowbit/core';
import { transientCompute } from '@lowbit/linalg';
import { metricOf } from './metric.js';
import type { LayerProblem, Quantized } from './problem.js';
import { gatherRows } from './rows.js';
import type { ScaleSystem } from './scale-system.js';

/** What may move in a group: its scale with an offset of its own, or the scale alone with an offset bound to it by a zero code. */
export type Unknowns = 'scale and offset' | 'scale';

/** The S-step of one row around its present scales. */
export interface RowSystem extends ScaleSystem {
  /** e = (ŵ − w)H(ŵ − w)ᵀ as it is. */
  readonly error: number;
}

/** Rows of one evaluation, and the elements of a panel's P that bound it. */
const PANEL_ROWS = 256;
const PANEL_ELEMENTS = 2 ** 22;

/**
 * Sets up the systems of `rows` one after the other; `visit` gets the position in `rows`, and views that it must not keep.
 *
 * With codes centred and scaled to u = (q − zero) / unit, ŵ = t·u + c: t = s·unit and c = offset + s·zero. Around the present (t, c), with
 * F = (Ŵ − W)H, the objective is e + 2gᵀδ + δᵀPδ: g₁[j] = Σ_{i∈j} u_i F_i, g₂[j] = Σ_{i∈j} F_i, P₁₁[j, k] = u_j H_jk u_kᵀ,
 * P₁₂[j, k] = u_j H_jk 1, P₂₂[j, k] = 1ᵀH_jk 1. `zeros` are the codes at u = 0, [out, groups].
 */
export async function visitSystems(
  problem: LayerProblem,
  quantized: Quantized,
  zeros: Float32Array,
  unknowns: Unknowns,
  rows: Int32Array,
  ridge: number,
  visit: (index: number, system: RowSystem) => void,
): Promise<void> {
  const { backend, outFeatures, inFeatures, groupSize } = problem;
  const size = inFeatures / groupSize;
  const metric = metricOf(problem).grouped(groupSize, ridge);
  const count = Math.max(1, Math.min(PANEL_ROWS, outFeatures, Math.floor(PANEL_ELEMENTS / size ** 2)));
  const compute = transientCompute(backend);
  for (let index = 0; index < rows.length; index += count) {
    const first = Math.max(0, Math.min(index, rows.length - count));
    const part = paddedRows(rows, first, count);
    const leaf = (matrix: Float32Array, width: number): Tensor => tensor(gatherRows(matrix, width, part), [count, width]);
    const panel: Panel = {
      codes: tensor(gatherRows(quantized.codes, inFeatures, part), [count, inFeatures]),
      scale: leaf(quantized.scale, size),
      offset: leaf(quantized.offset, size),
      zero: leaf(zeros, size),
      weight: leaf(problem.weight, inFeatures),
    };
    await compute(systemGraph(problem, panel, unknowns, ridge), (errors, scaleGradients, schurs, offsetGradients, couplings) => {
      // The last panel begins within the one before.
      for (let i = index - first; i < Math.min(count, rows.length - first); i++) {
        const vector = (values: Float32Array): Float32Array => values.subarray(i * size, (i + 1) * size);
        const matrix = (values: Float32Array): Float32Array => values.subarray(i * size * size, (i + 1) * size * size);
        visit(first + i, {
          error: errors[i],
          scaleGradient: vector(scaleGradients),
          schur: matrix(schurs),
          offsetGradient: offsetGradients && vector(offsetGradients),
          coupling: couplings && matrix(couplings),
          offsetFactor: couplings && metric.offsetFactor,
          offsetRidge: metric.offsetRidge,
          ridge,
        });
      }
    });
  }
}

/** Leaves of one panel. */
interface Panel {
  readonly codes: Tensor;
  readonly scale: Tensor;
  readonly offset: Tensor;
  readonly zero: Tensor;
  readonly weight: Tensor;
}

/** [e, g₁, S] and, with offsets, [e, g₁, S, g₂, V]. */
function systemGraph(problem: LayerProblem, { codes, scale, offset, zero, weight }: Panel, unknowns: Unknowns, ridge: number): Tensor[] {
  const { bits, groupSize } = problem;
  const metric = metricOf(problem);
  const { strips, coupling } = metric.grouped(groupSize, ridge);
  const [rows, size] = scale.shape;
  const grouped = [rows, size, groupSize];
  const perGroup = [rows, size, 1];
  const q = reshape(cast(codes, 'float32'), grouped);
  const u = mul(sub(q, reshape(zero, perGroup)), 1 / codeUnit(bits));
  const dequantized = add(mul(q, reshape(scale, perGroup)), reshape(offset, perGroup));
  const residual = sub(reshape(dequantized, weight.shape), weight);
  const product = matmul(residual, metric.hessian);
  const error = sum(mul(product, residual), [1]);
  const product3 = reshape(product, grouped);
  const scaleGradient = sum(mul(product3, u), [2]);
  const scales = scaleProducts(u, strips);
  if (unknowns === 'scale') return [error, scaleGradient, scales];
  const byGroup = matmul(transpose(u, [1, 0, 2]), coupling);
  const v = transpose(byGroup, [1, 0, 2]);
  const schur = sub(scales, matmul(v, v, { transposeB: true }));
  return [error, scaleGradient, schur, sum(product3, [2]), v];
}

/** P₁₁ with zeros below the diagonal, [rows, G, G], for u [rows, G, groupSize]. */
function scaleProducts(u: Tensor, strips: readonly Tensor[]): Tensor {
  const [rows, size, groupSize] = u.shape;
  const flat = reshape(u, [rows, size * groupSize]);
  const lines = strips.map((strip, j) => {
    const start = j * groupSize;
    const product = matmul(slice(flat, 1, start, start + groupSize), strip);
    const terms = mul(product, slice(flat, 1, start, size * groupSize));
    return pad(sum(reshape(terms, [rows, size - j, groupSize]), [2]), 1, j, 0);
  });
  return reshape(concat(lines, 1), [rows, size, size]);
}

/** What codes are divided by, so that scales and offsets have entries of one size in P. */
export function codeUnit(bits: number): number {
  return (2 ** bits - 1) / 2;
}

/** `count` entries from `first`; the last is repeated where there are fewer. */
function paddedRows(rows: Int32Array, first: number, count: number): Int32Array {
  return Int32Array.from({ length: count }, (_, i) => rows[Math.min(first + i, rows.length - 1)]);
}
