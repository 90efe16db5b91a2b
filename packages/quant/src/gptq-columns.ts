// The innermost loop of GPTQ: a block of columns, one after the other, on the host.

/** One stretch of output rows in the sweep's layout: a row per input (a column of the weight), contiguous over the outputs. */
export interface SweepPanel {
  /** Outputs in this panel. */
  readonly outputs: number;
  /** [inputs, outputs] in sweep order; corrected in place by the errors of earlier inputs. */
  readonly weight: Float32Array;
  /** [inputs, outputs]: (w − ŵ) / U[i, i] of the inputs done so far. */
  readonly error: Float32Array;
  /** [inputs, outputs] */
  readonly codes: Uint8Array;
  /** [groups, outputs] */
  readonly scale: Float32Array;
  readonly offset: Float32Array;
  /** Row of `scale` that each input uses, in sweep order. */
  readonly groupOf: Int32Array;
  readonly maxCode: number;
  /** U with UᵀU = H⁻¹, [inputs, inputs]. */
  readonly upper: Float32Array;
}

/** Outputs handled together: their errors over a block of columns stay in the first-level cache. */
const STRIP = 128;
/** Adding and subtracting 1.5·2^52 rounds a float64 below 2^51 to an integer, ties to even. */
const ROUND = 1.5 * 2 ** 52;

/**
 * Rounds inputs [start, start + count) in turn, each corrected by the errors of the block's earlier ones:
 * w_i ← w_i − Σ_{start≤j<i} U[j, i]·e_j, e_i = (w_i − ŵ_i) / U[i, i] (arXiv 2210.17323, algorithm 1, inner loop).
 */
export function quantizeColumns(panel: SweepPanel, start: number, count: number): void {
  const { outputs, weight, error, upper } = panel;
  const inputs = panel.groupOf.length;
  const errors = new Float64Array(count * STRIP);
  const row = new Float64Array(STRIP);
  const coefficients = new Float64Array(count);
  for (let first = 0; first < outputs; first += STRIP) {
    const width = Math.min(STRIP, outputs - first);
    for (let i = 0; i < count; i++) {
      const input = start + i;
      const at = input * outputs + first;
      for (let k = 0; k < width; k++) row[k] = weight[at + k];
      for (let j = 0; j < i; j++) coefficients[j] = upper[(start + j) * inputs + input];
      subtractErrors(row, width, errors, coefficients, i);
      roundRow(panel, input, first, row, width, errors, i * STRIP);
      for (let k = 0; k < width; k++) error[at + k] = errors[i * STRIP + k];
    }
  }
}

/** row −= Σ_j coefficients[j]·errors[j], four at a time to load and store the row less often. */
function subtractErrors(row: Float64Array, width: number, errors: Float64Array, coefficients: Float64Array, count: number): void {
  let j = 0;
  for (; j + 3 < count; j += 4) {
    const c0 = coefficients[j];
    const c1 = coefficients[j + 1];
    const c2 = coefficients[j + 2];
    const c3 = coefficients[j + 3];
    const e0 = j * STRIP;
    const e1 = e0 + STRIP;
    const e2 = e1 + STRIP;
    const e3 = e2 + STRIP;
    for (let k = 0; k < width; k++) row[k] -= c0 * errors[e0 + k] + c1 * errors[e1 + k] + (c2 * errors[e2 + k] + c3 * errors[e3 + k]);
  }
  for (; j < count; j++) {
    const c = coefficients[j];
    const e = j * STRIP;
    for (let k = 0; k < width; k++) row[k] -= c * errors[e + k];
  }
}

/** Codes of one input for a strip of outputs, and their errors scaled by 1 / U[i, i]. */
function roundRow(
  panel: SweepPanel,
  input: number,
  first: number,
  row: Float64Array,
  width: number,
  errors: Float64Array,
  errorsAt: number,
): void {
  const { outputs, codes, scale, offset, groupOf, maxCode, upper } = panel;
  const group = groupOf[input] * outputs + first;
  const at = input * outputs + first;
  const inverse = 1 / upper[input * (groupOf.length + 1)];
  for (let k = 0; k < width; k++) {
    const s = scale[group + k];
    const o = offset[group + k];
    // A scale of 0 leaves one point, the offset.
    const position = s === 0 ? 0 : (row[k] - o) / s;
    const code = Math.min(maxCode, Math.max(0, position)) + ROUND - ROUND;
    codes[at + k] = code;
    errors[errorsAt + k] = (row[k] - (s * code + o)) * inverse;
  }
}
