// The range that the alternation starts from: both ends of every group of a row shrunk by one factor, the best by the layer's own error.
import { maximum, minimum, mul, reciprocal, reshape, round, sub, type Tensor, tensor } from '@lowbit/core';
import { quadraticFormGraph, type TransientCompute, transientCompute } from '@lowbit/linalg';
import { metricOf } from './metric.js';
import type { LayerProblem, Scales } from './problem.js';
import { panelRows } from './row-errors.js';

export type RangeSearch = 'full' | 'coarse-to-fine';

export interface RangeSearchResult {
  /** Factor of each row, [out]. */
  readonly shrink: Float32Array;
  /** Error of rounding to nearest there, [out]; scales not rounded to how they are stored. */
  readonly errors: Float64Array;
}

/** The published search: 1, 0.995, … 0.205. */
const FULL_STEPS = 160;
const FULL_STEP = 1 / 200;
/** 1, 0.9, … 0.3, then half as far to either side of each row's best until the spacing is at most 0.0125. */
const COARSE_STEPS = 8;
const COARSE_STEP = 0.1;
const HALVINGS = 3;
const SMALLEST = 1 - (FULL_STEPS - 1) * FULL_STEP;
/** Rows whose values stay in the processor's outer cache. */
const PANEL_ROWS = 512;

/**
 * Finds the factor of least error (ŵ − w)H(ŵ − w)ᵀ for every row, ŵ rounded to nearest on the shrunk grid. `baseErrors` are those on the grid
 * as it is, [out].
 */
export async function searchRange(
  problem: LayerProblem,
  base: Scales,
  search: RangeSearch,
  baseErrors: Float64Array,
): Promise<RangeSearchResult> {
  const { backend, outFeatures } = problem;
  const shrink = new Float32Array(outFeatures);
  const errors = new Float64Array(outFeatures);
  const compute = transientCompute(backend);
  const count = Math.min(outFeatures, PANEL_ROWS);
  for (let next = 0; next < outFeatures; next += count) {
    const first = Math.min(next, outFeatures - count);
    const start = { shrink: new Float32Array(count).fill(1), errors: baseErrors.slice(first, first + count) };
    const best = await searchPanel(panelEvaluator(problem, base, compute, first, count), start, search);
    shrink.set(best.shrink, first);
    errors.set(best.errors, first);
  }
  return { shrink, errors };
}

/** Errors of a panel's rows with one factor a row. */
type Evaluate = (shrink: Float32Array) => Promise<Float32Array>;

/** Improves on the factors of `start`, in place. */
async function searchPanel(evaluate: Evaluate, { shrink, errors }: RangeSearchResult, search: RangeSearch): Promise<RangeSearchResult> {
  const count = shrink.length;
  const attempt = async (factors: Float32Array): Promise<void> => {
    const found = await evaluate(factors);
    for (let r = 0; r < count; r++) {
      if (!(found[r] < errors[r])) continue;
      errors[r] = found[r];
      shrink[r] = factors[r];
    }
  };
  const [steps, step] = search === 'full' ? [FULL_STEPS, FULL_STEP] : [COARSE_STEPS, COARSE_STEP];
  for (let i = 1; i < steps; i++) {
    await attempt(new Float32Array(count).fill(1 - i * step));
  }
  if (search === 'full') return { shrink, errors };
  for (let halving = 1; halving <= HALVINGS; halving++) {
    const middle = shrink.slice();
    const distance = step / 2 ** halving;
    for (const side of [-distance, distance]) await attempt(middle.map((factor) => beside(factor, side)));
  }
  return { shrink, errors };
}

/** A factor moved by `side`, within the range that is searched. */
function beside(factor: number, side: number): number {
  return Math.min(1, Math.max(SMALLEST, factor + side));
}

/** Below this a scale belongs to a group of zeros, and its inverse would overflow. */
const NO_SCALE = 2 ** -100;

/**
 * The errors of a panel as one graph. With x = w / (p·s) − offset / s the code is x rounded and cut to the grid, and ŵ − w = (code − x)·p·s:
 * rounding, residual and quadratic form in one pass.
 */
function panelEvaluator(problem: LayerProblem, base: Scales, compute: TransientCompute, first: number, count: number): Evaluate {
  const { inFeatures, groupSize, bits, weight } = problem;
  const groups = inFeatures / groupSize;
  const { form } = metricOf(problem);
  const part = (values: Float32Array): Float32Array => values.subarray(first * groups, (first + count) * groups);
  const perGroup = (values: Float32Array): Tensor => tensor(values, [count, groups, 1]);
  const scales = part(base.scale);
  const offsets = part(base.offset);
  const scale = perGroup(scales);
  const inverse = perGroup(scales.map((s) => (Math.abs(s) < NO_SCALE ? 0 : 1 / s)));
  const shift = perGroup(offsets.map((offset, g) => offset / scales[g]));
  const grouped = reshape(panelRows(first, count)(weight, inFeatures), [count, groups, groupSize]);
  return async (shrink) => {
    const factor = tensor(shrink, [count, 1, 1]);
    const position = sub(mul(grouped, mul(inverse, reciprocal(factor))), shift);
    const code = minimum(maximum(round(position), 0), 2 ** bits - 1);
    const residual = mul(sub(code, position), mul(scale, factor));
    const errors = new Float32Array(count);
    await compute([quadraticFormGraph(form, reshape(residual, [count, inFeatures]))], (found) => errors.set(found));
    return errors;
  };
}
