// The W-step that keeps codes integral: inputs are rounded in turn, and after each the others move against the error (arXiv 2404.12759).
import { tensor } from '@lowbit/core';
import { nearestCode } from '@lowbit/quant';
import type { LayerProblem, Scales } from '../problem.js';
import { type AdamSchedule, adamSchedule, gridEnds, paddedRows, panelSize, relaxWeights, runAdam } from './projected-adam.js';

export interface FirstLevelOptions {
  /** Steps on the relaxed weight before the first input is rounded. */
  readonly relaxationSteps: number;
  /** Steps on the remaining inputs after each rounded one. */
  readonly innerSteps: number;
  /** As for `relaxWeights`. */
  readonly learningRate: number;
}

/** Adam's ε over the learning rate, as for `relaxWeights`; the reference implementation has 1e-4 at a rate of 1e-3 here. */
const EPSILON_OVER_RATE = 0.1;

/**
 * Codes [out, in]: each input, in the order of the factor, is fixed at its nearest point, then the inputs that are left take `innerSteps`
 * projected Adam steps on the true error. GPTQ is the same with the box dropped and the inner problem solved exactly. Every input starts
 * with moments of 0: its inner problem is a new one, and old moments gave the same errors with 50 steps and larger ones with 5.
 *
 * Costs 2·innerSteps·out·in³ operations, `innerSteps` times the inputs as many small products: for layers of a few hundred inputs.
 */
export async function firstLevelCodes(
  problem: LayerProblem,
  scales: Scales,
  { relaxationSteps, innerSteps, learningRate }: FirstLevelOptions,
): Promise<Uint8Array> {
  const { outFeatures, inFeatures } = problem;
  const relaxed = await relaxWeights(problem, scales, { steps: relaxationSteps, learningRate });
  const schedule = adamSchedule(problem, learningRate, EPSILON_OVER_RATE);
  const codes = new Uint8Array(outFeatures * inFeatures);
  const rows = panelSize(outFeatures);
  for (let first = 0; first < outFeatures; first += rows) {
    await roundPanel({ problem, scales, schedule, first, rows }, paddedRows(relaxed, inFeatures, first, rows), innerSteps, codes);
  }
  return codes;
}

interface Panel {
  readonly problem: LayerProblem;
  readonly scales: Scales;
  readonly schedule: AdamSchedule;
  /** Rows [first, first + rows) of the layer; those beyond its end are ignored. */
  readonly first: number;
  readonly rows: number;
}

async function roundPanel(panel: Panel, relaxed: Float32Array, innerSteps: number, codes: Uint8Array): Promise<void> {
  const { problem, scales, schedule, first, rows } = panel;
  const { backend, inFeatures, groupSize, outFeatures } = problem;
  const ends = gridEnds(problem, scales);
  const low = eachInput(paddedRows(ends.low, inFeatures / groupSize, first, rows), groupSize);
  const high = eachInput(paddedRows(ends.high, inFeatures / groupSize, first, rows), groupSize);
  const hessian = tensor(problem.hessian, [inFeatures, inFeatures]);
  const target = tensor(paddedRows(problem.weight, inFeatures, first, rows), [rows, inFeatures]);
  let weight = relaxed.slice();
  for (const input of problem.factor.order) {
    for (let row = first; row < Math.min(first + rows, outFeatures); row++) {
      const { code, value } = nearestPoint(problem, scales, row, input, weight[(row - first) * inFeatures + input]);
      codes[row * inFeatures + input] = code;
      // A box of one point holds the input where it is.
      for (const array of [weight, low, high]) array[(row - first) * inFeatures + input] = value;
    }
    const shape = [rows, inFeatures, 1];
    const box = { low: tensor(low.slice(), shape), high: tensor(high.slice(), shape) };
    weight = (await runAdam(backend, { target, hessian, ...box }, weight, schedule, innerSteps)).slice();
  }
}

function nearestPoint(
  { bits, inFeatures, groupSize }: LayerProblem,
  { scale, offset }: Scales,
  row: number,
  input: number,
  weight: number,
): { readonly code: number; readonly value: number } {
  const group = row * (inFeatures / groupSize) + Math.floor(input / groupSize);
  const code = nearestCode(weight, scale[group], offset[group], 2 ** bits - 1);
  return { code, value: Math.fround(scale[group] * code) + offset[group] };
}

/** A value per group, repeated for each of its inputs. */
function eachInput(perGroup: Float32Array, groupSize: number): Float32Array {
  const values = new Float32Array(perGroup.length * groupSize);
  for (let g = 0; g < perGroup.length; g++) values.fill(perGroup[g], g * groupSize, (g + 1) * groupSize);
  return values;
}
