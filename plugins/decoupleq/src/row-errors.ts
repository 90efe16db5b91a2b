// Errors of rows: what every half-step is accepted by.
import { dequantize, sub, type Tensor, tensor } from '@lowbit/core';
import { rowQuadraticForms } from '@lowbit/linalg';
import { metricOf } from './metric.js';
import type { LayerProblem, Quantized } from './problem.js';

/** e_r = (ŵ_r − w_r)H(ŵ_r − w_r)ᵀ of every row, [out]; never below 0, where float32 sums of a nearly singular H may end. */
export async function rowErrors(problem: LayerProblem, { codes, scale, offset }: Quantized): Promise<Float64Array> {
  const { backend, outFeatures, inFeatures, groupSize, weight } = problem;
  const groups = inFeatures / groupSize;
  const errors = await rowQuadraticForms(backend, metricOf(problem).form, outFeatures, (first, count) => {
    const rows = panelRows(first, count);
    return sub(dequantize(rows(codes, inFeatures), rows(scale, groups), rows(offset, groups)), rows(weight, inFeatures));
  });
  return errors.map((error) => Math.max(0, error));
}

/** w_r H w_rᵀ of every row, [out]: what errors are relative to. */
export function rowEnergies({ backend, outFeatures, inFeatures, weight, ...problem }: LayerProblem): Promise<Float64Array> {
  const { form } = metricOf({ backend, outFeatures, inFeatures, weight, ...problem });
  return rowQuadraticForms(backend, form, outFeatures, (first, count) => panelRows(first, count)(weight, inFeatures));
}

/** Leaves over rows [first, first + count) of row-major matrices. */
export function panelRows(first: number, count: number): (matrix: Float32Array | Uint8Array, width: number) => Tensor {
  return (matrix, width) => tensor(matrix.subarray(first * width, (first + count) * width), [count, width]);
}
