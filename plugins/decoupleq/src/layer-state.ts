// Where an alternation stands, and how a half-step is taken: row by row, wherever the error falls.
import type { LayerProblem, Quantized, Scales } from './problem.js';
import { rowErrors } from './row-errors.js';

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

/** Each row from where its error is smaller, and the rows that changed. */
export function accept(
  { inFeatures, groupSize }: LayerProblem,
  state: LayerState,
  candidate: LayerState,
): { state: LayerState; rows: Int32Array } {
  const rows = Int32Array.from(state.errors.keys()).filter((r) => candidate.errors[r] < (1 - LEAST_GAIN) * state.errors[r]);
  const quantized: Quantized = {
    codes: state.quantized.codes.slice(),
    scale: state.quantized.scale.slice(),
    offset: state.quantized.offset.slice(),
  };
  const errors = state.errors.slice();
  const width = inFeatures / groupSize;
  for (const r of rows) {
    quantized.codes.set(candidate.quantized.codes.subarray(r * inFeatures, (r + 1) * inFeatures), r * inFeatures);
    quantized.scale.set(candidate.quantized.scale.subarray(r * width, (r + 1) * width), r * width);
    quantized.offset.set(candidate.quantized.offset.subarray(r * width, (r + 1) * width), r * width);
    errors[r] = candidate.errors[r];
  }
  return { state: { quantized, errors }, rows };
}
