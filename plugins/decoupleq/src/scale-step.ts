// The S-step: with the codes fixed, the scales and offsets of least error in closed form, row by row (arXiv 2404.12759).
import type { ScaleDtype } from '@lowbit/quant';
import { codeUnit, visitSystems } from './normal-equations.js';
import type { LayerProblem, Quantized } from './problem.js';
import { scaleSolver } from './scale-system.js';
import { boundOffset, storedScale, storedValue, zeroCode } from './stored-scales.js';

export interface ScaleStepOptions {
  /** Pull towards the present values, relative to the mean diagonal of the system. */
  readonly ridge: number;
  readonly scaleDtype: ScaleDtype;
}

export interface ScaleStepResult {
  /** Rows that got better have new scales, and mirrored codes where a scale would have become negative; the others are as they were. */
  readonly quantized: Quantized;
  /** Change of each row's error, [out]: negative in rows that got better, 0 elsewhere. Measured with the scales as they are stored. */
  readonly change: Float64Array;
  /** Scales that could not be told from the rest, because all codes of their group are equal. */
  readonly held: number;
}

/**
 * Improves scales and offsets of `rows` for their codes. An error never rises: a row keeps what it has unless the stored result is better.
 * Integer zero points stay or move, whichever is better in each row.
 */
export async function improveScales(
  problem: LayerProblem,
  quantized: Quantized,
  rows: Int32Array,
  options: ScaleStepOptions,
): Promise<ScaleStepResult> {
  const kept = await refit(problem, quantized, rows, options);
  if (problem.zero !== 'integer') return kept;
  const moved = await moveZeros(problem, quantized, rows, options);
  for (const row of rows) {
    if (!(moved.change[row] < kept.change[row])) continue;
    kept.change[row] = moved.change[row];
    copyRow(problem, moved.quantized, kept.quantized, row);
  }
  return kept;
}

/** Free offsets, or scales whose zero codes stay what they are. */
async function refit(problem: LayerProblem, quantized: Quantized, rows: Int32Array, options: ScaleStepOptions): Promise<ScaleStepResult> {
  const { zero, outFeatures } = problem;
  const zeros = centres(problem, quantized);
  const result = copyOf(quantized);
  const change = new Float64Array(outFeatures);
  const solver = scaleSolver(problem.inFeatures / problem.groupSize);
  let held = 0;
  const unknowns = zero === 'free' ? 'scale and offset' : 'scale';
  await visitSystems(problem, quantized, zeros, unknowns, rows, options.ridge, (index, system) => {
    const row = rows[index];
    const solution = solver.solve(system);
    const candidate = storedRow(problem, quantized, zeros, row, solution, options.scaleDtype);
    const gain = solver.change(system, candidate.scaleStep, candidate.offsetStep);
    held += solution.held;
    // An overflow makes this NaN or infinite, and the row stays.
    if (!(gain < 0 && gain > -Infinity)) return;
    change[row] = gain;
    replaceRow(problem, result, row, candidate);
  });
  return { quantized: result, change, held };
}

/**
 * Integer zero points: offsets solved as if they were free and rounded to a code, then the scales once more for these codes of zero.
 * The comparison is with the error before both.
 */
async function moveZeros(
  problem: LayerProblem,
  quantized: Quantized,
  rows: Int32Array,
  options: ScaleStepOptions,
): Promise<Pick<ScaleStepResult, 'quantized' | 'change'>> {
  const { outFeatures, inFeatures, groupSize } = problem;
  const groups = inFeatures / groupSize;
  const solver = scaleSolver(groups);
  const before = new Float64Array(outFeatures);
  const middles = new Float32Array(quantized.scale.length).fill(codeUnit(problem.bits));
  const rounded = copyOf(quantized);
  const freely: LayerProblem = { ...problem, zero: 'free' };
  await visitSystems(freely, quantized, middles, 'scale and offset', rows, options.ridge, (index, system) => {
    const row = rows[index];
    before[row] = system.error;
    const candidate = storedRow(freely, quantized, middles, row, solver.solve(system), 'float32');
    if (!candidate.scale.every(Number.isFinite) || !candidate.offset.every(Number.isFinite)) return;
    for (let j = 0; j < groups; j++) {
      const scale = storedScale(candidate.scale[j], options.scaleDtype);
      candidate.offset[j] = boundOffset(scale, zeroCode(problem, candidate.scale[j], candidate.offset[j]));
      candidate.scale[j] = scale;
    }
    if (candidate.scale.every(Number.isFinite)) replaceRow(problem, rounded, row, candidate);
  });
  const zeros = centres(problem, rounded);
  const result = copyOf(quantized);
  const change = new Float64Array(outFeatures);
  await visitSystems(problem, rounded, zeros, 'scale', rows, options.ridge, (index, system) => {
    const row = rows[index];
    const candidate = storedRow(problem, rounded, zeros, row, solver.solve(system), options.scaleDtype);
    const gain = solver.change(system, candidate.scaleStep, candidate.offsetStep);
    const isBetter = gain < 0 && gain > -Infinity;
    const total = system.error + (isBetter ? gain : 0) - before[row];
    if (!(total < 0)) return;
    change[row] = total;
    copyRow(problem, rounded, result, row);
    if (isBetter) replaceRow(problem, result, row, candidate);
  });
  return { quantized: result, change };
}

/** The codes around which u is centred: the middle where the offset is free, the code of zero where it is not. [out, groups] */
function centres(problem: LayerProblem, { scale, offset }: Quantized): Float32Array {
  const middle = codeUnit(problem.bits);
  return scale.map((s, g) => (problem.zero === 'free' ? middle : zeroCode(problem, s, offset[g])));
}

interface Candidate {
  /** As they are stored, [groups]; for mirrored codes where `isMirrored`. */
  readonly scale: Float32Array;
  readonly offset: Float32Array;
  readonly isMirrored: Uint8Array;
  /** The steps of t and c that the stored values amount to, for the codes as they were. */
  readonly scaleStep: Float64Array;
  readonly offsetStep: Float64Array;
}

/**
 * A row's solution as it would be stored. A negative scale becomes positive by mirroring codes, q → 2^b − 1 − q, except on a symmetric
 * grid, whose codes have no mirror image.
 */
function storedRow(
  { bits, zero }: LayerProblem,
  { scale, offset }: Quantized,
  zeros: Float32Array,
  row: number,
  solution: { readonly scale: Float64Array; readonly offset: Float64Array },
  dtype: ScaleDtype,
): Candidate {
  const size = solution.scale.length;
  const unit = codeUnit(bits);
  const candidate: Candidate = {
    scale: new Float32Array(size),
    offset: new Float32Array(size),
    isMirrored: new Uint8Array(size),
    scaleStep: new Float64Array(size),
    offsetStep: new Float64Array(size),
  };
  for (let j = 0; j < size; j++) {
    const g = row * size + j;
    const present = scale[g] * unit;
    const solved = present + solution.scale[j];
    const isMirrored = zero !== 'symmetric' && solved < 0;
    const stored = storedScale((isMirrored ? -solved : solved) / unit, dtype);
    candidate.isMirrored[j] = isMirrored ? 1 : 0;
    candidate.scale[j] = stored;
    candidate.scaleStep[j] = (isMirrored ? -stored : stored) * unit - present;
    if (zero === 'free') {
      const centre = offset[g] + scale[g] * zeros[g];
      candidate.offset[j] = storedValue(centre + solution.offset[j] - stored * unit, dtype);
      candidate.offsetStep[j] = candidate.offset[j] + stored * unit - centre;
    } else {
      candidate.offset[j] = boundOffset(stored, isMirrored ? 2 * unit - zeros[g] : zeros[g]);
    }
  }
  return candidate;
}

function copyOf({ codes, scale, offset }: Quantized): Quantized {
  return { codes: codes.slice(), scale: scale.slice(), offset: offset.slice() };
}

function replaceRow({ bits, inFeatures, groupSize }: LayerProblem, target: Quantized, row: number, candidate: Candidate): void {
  target.scale.set(candidate.scale, row * candidate.scale.length);
  target.offset.set(candidate.offset, row * candidate.scale.length);
  const maxCode = 2 ** bits - 1;
  candidate.isMirrored.forEach((isMirrored, j) => {
    if (isMirrored) mirror(target.codes, row * inFeatures + j * groupSize, groupSize, maxCode);
  });
}

function mirror(codes: Uint8Array, start: number, count: number, maxCode: number): void {
  for (let i = start; i < start + count; i++) codes[i] = maxCode - codes[i];
}

function copyRow({ inFeatures, groupSize }: LayerProblem, from: Quantized, to: Quantized, row: number): void {
  const groups = inFeatures / groupSize;
  to.codes.set(from.codes.subarray(row * inFeatures, (row + 1) * inFeatures), row * inFeatures);
  to.scale.set(from.scale.subarray(row * groups, (row + 1) * groups), row * groups);
  to.offset.set(from.offset.subarray(row * groups, (row + 1) * groups), row * groups);
}
