// The relaxed W-step: weights that may lie anywhere between the ends of their group's grid, by projected Adam (arXiv 2404.12759).
import {
  add,
  type Backend,
  div,
  matmul,
  maximum,
  minimum,
  mul,
  readFloats,
  reshape,
  sqrt,
  square,
  sub,
  type Tensor,
  tensor,
} from '@lowbit/core';
import type { LayerProblem, Scales } from '../problem.js';

export interface RelaxationOptions {
  readonly steps: number;
  /** How far a step moves a weight at most, about, in units of the weight. */
  readonly learningRate: number;
}

/** Rows relaxed together: enough for products at full speed, few enough that the state of a wide layer stays small. */
const PANEL_ROWS = 1024;
const BETA_1 = 0.9;
const BETA_2 = 0.999;
/**
 * Adam's ε over the learning rate. The reference implementation has 1e-5 at a rate of 1e-3, for gradients of Hessians with a diagonal
 * near 1; kept as a ratio, and measured in units of H's mean diagonal, the steps do not depend on the scale of weights or inputs.
 */
const EPSILON_OVER_RATE = 0.01;

/**
 * Minimises (w − W)H(w − W)ᵀ with every weight between the two ends of its group's grid, from W cut to that box: [out, in]. Approximate;
 * the distance to the optimum ends near the learning rate. A step costs 2·out·in² operations.
 */
export async function relaxWeights(
  problem: LayerProblem,
  scales: Scales,
  { steps, learningRate }: RelaxationOptions,
): Promise<Float32Array> {
  const { backend, outFeatures, inFeatures, groupSize } = problem;
  const groups = inFeatures / groupSize;
  const box = gridEnds(problem, scales);
  const hessian = tensor(problem.hessian, [inFeatures, inFeatures]);
  const schedule = adamSchedule(problem, learningRate, EPSILON_OVER_RATE);
  const relaxed = clampToBox(problem.weight, box, groupSize);
  const rows = panelSize(outFeatures);
  for (let first = 0; first < outFeatures; first += rows) {
    const panel = (matrix: Float32Array, width: number): Float32Array => paddedRows(matrix, width, first, rows);
    const setting: AdamProblem = {
      target: tensor(panel(problem.weight, inFeatures), [rows, inFeatures]),
      hessian,
      low: tensor(panel(box.low, groups), [rows, groups, 1]),
      high: tensor(panel(box.high, groups), [rows, groups, 1]),
    };
    const weights = await runAdam(backend, setting, panel(relaxed, inFeatures), schedule, steps);
    relaxed.set(weights.subarray(0, Math.min(rows, outFeatures - first) * inFeatures), first * inFeatures);
  }
  return relaxed;
}

/** Ends of the grids, [out, groups], ordered whatever the sign of the scale. */
export interface Box {
  readonly low: Float32Array;
  readonly high: Float32Array;
}

/** The least and the largest weight that a group's codes can stand for. */
export function gridEnds({ bits }: Pick<LayerProblem, 'bits'>, { scale, offset }: Scales): Box {
  const other = scale.map((s, g) => Math.fround(s * (2 ** bits - 1)) + offset[g]);
  return { low: other.map((end, g) => Math.min(end, offset[g])), high: other.map((end, g) => Math.max(end, offset[g])) };
}

function clampToBox(weight: Float32Array, { low, high }: Box, groupSize: number): Float32Array {
  const clamped = new Float32Array(weight.length);
  for (let g = 0, i = 0; g < low.length; g++) {
    for (const end = i + groupSize; i < end; i++) clamped[i] = Math.min(high[g], Math.max(low[g], weight[i]));
  }
  return clamped;
}

/** Rows of a panel when a layer is cut into equal ones: the engine compiles one program for all of them. */
export function panelSize(outFeatures: number): number {
  return Math.ceil(outFeatures / Math.ceil(outFeatures / PANEL_ROWS));
}

/** Rows [first, first + rows) of a matrix; rows beyond its end are 0. */
export function paddedRows(matrix: Float32Array, width: number, first: number, rows: number): Float32Array {
  const part = matrix.subarray(first * width, (first + rows) * width);
  if (part.length === rows * width) return part;
  const padded = new Float32Array(rows * width);
  padded.set(part);
  return padded;
}

/** What does not change from step to step. */
export interface AdamProblem {
  /** W, [rows, in]. */
  readonly target: Tensor;
  /** [in, in] */
  readonly hessian: Tensor;
  /** The box, [rows, groups, 1]. */
  readonly low: Tensor;
  readonly high: Tensor;
}

/** Weights and Adam's two moments, [rows, in]; the moments are m/(1 − β₁) and v/(1 − β₂), which saves two products a step. */
interface AdamState {
  readonly weight: Tensor;
  readonly first: Tensor;
  readonly second: Tensor;
}

/** Rate and ε of step t = 1, 2, …, bias corrections included, for the unnormalised moments. */
export type AdamSchedule = (t: number) => { readonly rate: number; readonly epsilon: number };

export function adamSchedule({ hessian, inFeatures }: LayerProblem, learningRate: number, epsilonOverRate: number): AdamSchedule {
  let trace = 0;
  for (let i = 0; i < inFeatures; i++) trace += hessian[i * (inFeatures + 1)];
  const epsilon = (epsilonOverRate * learningRate * trace) / inFeatures;
  return (t) => {
    const first = (1 - BETA_1) / (1 - BETA_1 ** t);
    const second = Math.sqrt((1 - BETA_2) / (1 - BETA_2 ** t));
    return { rate: (learningRate * first) / second, epsilon: epsilon / second };
  };
}

/** Weights [rows, in] after `steps` of projected Adam from `start`, which lies in the box. */
export async function runAdam(
  backend: Backend,
  problem: AdamProblem,
  start: Float32Array,
  schedule: AdamSchedule,
  steps: number,
): Promise<Float32Array> {
  const leaf = (data: Float32Array): Tensor => tensor(data, problem.target.shape);
  let state: AdamState = { weight: leaf(start), first: leaf(new Float32Array(start.length)), second: leaf(new Float32Array(start.length)) };
  for (let t = 1; t <= steps; t++) {
    const next = adamStep(problem, state, schedule(t));
    // The start belongs to the caller; later states hand their memory on.
    const spent = t > 1 ? [state.weight, state.first, state.second] : [];
    const [weight, first, second] = await backend.evaluate([next.weight, next.first, next.second], { release: spent });
    state = { weight, first, second };
  }
  return readFloats(state.weight);
}

/** One step as one graph. The gradient is half the objective's: Adam does not feel the factor. */
function adamStep({ target, hessian, low, high }: AdamProblem, state: AdamState, at: ReturnType<AdamSchedule>): AdamState {
  const gradient = matmul(sub(state.weight, target), hessian);
  const first = add(mul(state.first, BETA_1), gradient);
  const second = add(mul(state.second, BETA_2), square(gradient));
  const step = div(mul(first, tensor(at.rate)), add(sqrt(second), tensor(at.epsilon)));
  const [rows, inputs] = target.shape;
  const groups = low.shape[1];
  const moved = reshape(sub(state.weight, step), [rows, groups, inputs / groups]);
  return { weight: reshape(minimum(maximum(moved, low), high), [rows, inputs]), first, second };
}
