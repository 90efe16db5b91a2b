// Integer coordinate descent: with scales and offsets fixed, each code in turn becomes the best one given all others.
import { matmul, tensor } from '@lowbit/core';
import { type TransientCompute, transientCompute } from '@lowbit/linalg';
import { nearestCode } from '@lowbit/quant';
import type { LayerProblem, Quantized } from '../problem.js';
import { panelSize } from './projected-adam.js';

/** Inputs whose gradients come from one product; the changes among them are followed on the host. */
const BLOCK = 128;
/**
 * A change must gain this share of δ²·H_ii, the error it would cause on its own: gradients are float32, and below this their rounding
 * could let codes swap for ever.
 */
const LEAST_GAIN = 1e-5;

/**
 * Codes [out, in] after `sweeps` cyclic sweeps over the inputs, fewer when nothing changes any more: then no change of a single code
 * lowers a row's error (up to `LEAST_GAIN`). No sweep raises it. A sweep costs 2·out·in² operations.
 */
export async function descendCodes(problem: LayerProblem, quantized: Quantized, sweeps: number): Promise<Uint8Array> {
  const { backend, outFeatures, inFeatures } = problem;
  const compute = transientCompute(backend);
  const codes = quantized.codes.slice();
  const rows = panelSize(outFeatures);
  for (let first = 0; first < outFeatures; first += rows) {
    const panel = panelOf(problem, quantized, codes, first, Math.min(rows, outFeatures - first));
    for (let sweep = 0, changes = 1; sweep < sweeps && changes > 0; sweep++) {
      changes = 0;
      for (let start = 0; start < inFeatures; start += BLOCK) changes += await descendBlock(compute, panel, start);
    }
  }
  return codes;
}

/** A stretch of rows. `codes` and `residual` change. */
interface Panel {
  readonly problem: LayerProblem;
  readonly rows: number;
  /** [rows, in] */
  readonly codes: Uint8Array;
  readonly weight: Float32Array;
  /** Ŵ − W, [rows, in]. */
  readonly residual: Float32Array;
  /** [rows, groups] */
  readonly scale: Float32Array;
  readonly offset: Float32Array;
}

function panelOf(problem: LayerProblem, { scale, offset }: Quantized, codes: Uint8Array, first: number, rows: number): Panel {
  const { inFeatures, groupSize } = problem;
  const part = <A extends Float32Array | Uint8Array>(matrix: A, width: number): A =>
    matrix.subarray(first * width, (first + rows) * width) as A;
  const panel = {
    problem,
    rows,
    codes: part(codes, inFeatures),
    weight: part(problem.weight, inFeatures),
    residual: new Float32Array(rows * inFeatures),
    scale: part(scale, inFeatures / groupSize),
    offset: part(offset, inFeatures / groupSize),
  };
  for (let g = 0, i = 0; g < panel.scale.length; g++) {
    for (const end = i + groupSize; i < end; i++) {
      panel.residual[i] = Math.fround(panel.scale[g] * panel.codes[i]) + panel.offset[g] - panel.weight[i];
    }
  }
  return panel;
}

/** Descends along the inputs of the block that starts at `start`. Returns how many codes changed. */
async function descendBlock(compute: TransientCompute, panel: Panel, start: number): Promise<number> {
  const { hessian, inFeatures } = panel.problem;
  const count = Math.min(BLOCK, inFeatures - start);
  const residual = tensor(panel.residual, [panel.rows, inFeatures]);
  // H is symmetric: its rows are the columns that the product needs.
  const strip = tensor(hessian.subarray(start * inFeatures, (start + count) * inFeatures), [count, inFeatures]);
  let changes = 0;
  await compute([matmul(residual, strip, { transposeB: true })], (gradient) => {
    for (let row = 0; row < panel.rows; row++) {
      changes += descendRow(panel, row, start, gradient.subarray(row * count, (row + 1) * count));
    }
  });
  return changes;
}

/** The block's part of one row; `gradient` is that of half the error, and is kept up to date for the inputs still to come. */
function descendRow(
  { problem, codes, weight, residual, scale, offset }: Panel,
  row: number,
  start: number,
  gradient: Float32Array,
): number {
  const { hessian, inFeatures, groupSize, bits } = problem;
  const maxCode = 2 ** bits - 1;
  let changes = 0;
  for (let i = 0; i < gradient.length; i++) {
    const input = start + i;
    const at = row * inFeatures + input;
    const group = row * (inFeatures / groupSize) + Math.floor(input / groupSize);
    const curvature = hessian[input * (inFeatures + 1)];
    // Along one input the error is a parabola: the code nearest to its vertex is the best.
    const vertex = weight[at] + residual[at] - gradient[i] / curvature;
    const code = nearestCode(vertex, scale[group], offset[group], maxCode);
    if (code === codes[at]) continue;
    const moved = Math.fround(scale[group] * code) + offset[group] - weight[at];
    const delta = moved - residual[at];
    const gain = -delta * (2 * gradient[i] + delta * curvature);
    if (!(gain > LEAST_GAIN * delta * delta * curvature)) continue;
    codes[at] = code;
    residual[at] = moved;
    changes++;
    const coupling = input * inFeatures + start;
    for (let j = i + 1; j < gradient.length; j++) gradient[j] += delta * hessian[coupling + j];
  }
  return changes;
}
