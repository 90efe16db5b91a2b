// Where an alternation stands, and how a half-step is taken: row by row, wherever the error falls.
import type { CodeStep, LayerProblem, Quantized, Scales } from './problem.js';
import { rowErrors } from './row-errors.js';
import { gatherRows } from './rows.js';

export interface LayerState {
  readonly quantized: Quantized;
  /** Of its rows, [out]. */
  readonly errors: Float64Array;
}

/** Errors are float32 sums: a smaller gain may be rounding, and codes that are the same would count as accepted. */
const LEAST_GAIN = 1e-6;

/** Codes on a grid, measured. */
export async function withCodes(problem: LayerProblem, { scale, offset }: Scales, codes: Uint8Array): Promise<LayerState> {
  const quantized: Quantized = { codes, scale, offset };
  return { quantized, errors: await rowErrors(problem, quantized) };
}

/** The code step for some rows: their states, in the order of `rows`. */
export async function stepCodes(
  problem: LayerProblem,
  { scale, offset }: Scales,
  rows: Int32Array,
  codeStep: CodeStep,
): Promise<LayerState> {
  const groups = problem.inFeatures / problem.groupSize;
  const part: LayerProblem = { ...problem, weight: gatherRows(problem.weight, problem.inFeatures, rows), outFeatures: rows.length };
  const scales: Scales = { scale: gatherRows(scale, groups, rows), offset: gatherRows(offset, groups, rows) };
  return withCodes(part, scales, await codeStep(part, scales));
}

/** Replaces each of `rows` by its candidate where that has a smaller error; also returns the rows that changed. */
export function accept(
  { inFeatures, groupSize }: LayerProblem,
  state: LayerState,
  candidates: LayerState,
  rows: Int32Array,
): { readonly state: LayerState; readonly accepted: Int32Array } {
  const codes = state.quantized.codes.slice();
  const scale = state.quantized.scale.slice();
  const offset = state.quantized.offset.slice();
  const errors = state.errors.slice();
  const groups = inFeatures / groupSize;
  const accepted = rows.filter((row, i) => {
    if (!(candidates.errors[i] < (1 - LEAST_GAIN) * errors[row])) return false;
    const { quantized } = candidates;
    codes.set(quantized.codes.subarray(i * inFeatures, (i + 1) * inFeatures), row * inFeatures);
    scale.set(quantized.scale.subarray(i * groups, (i + 1) * groups), row * groups);
    offset.set(quantized.offset.subarray(i * groups, (i + 1) * groups), row * groups);
    errors[row] = candidates.errors[i];
    return true;
  });
  return { state: { quantized: { codes, scale, offset }, errors }, accepted };
}
