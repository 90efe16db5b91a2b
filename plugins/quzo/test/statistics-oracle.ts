// Gradient estimates of plain functions by the plugin's own directions, slopes and steps, and their moments in float64.
import { createDraws } from '../src/direction/keys.js';
import { selectedDirection } from '../src/direction/masked.js';
import type { Draws, Hooks, Parameter, ParameterKind, ParameterSettings, Scratch } from '../src/hooks.js';
import { hooksOf } from '../src/hooks-of.js';
import { type QuzoInput, quzoOptions } from '../src/options.js';
import { createScratch } from '../src/perturbation/scratch.js';
import type { TrainedParameter } from '../src/perturbation/trained.js';
import { createSlots } from '../src/update/slots.js';
import { takeStep } from '../src/update/take-step.js';

export const freshScratch: Scratch = { int8: (size) => new Int8Array(size), float32: (size) => new Float32Array(size) };

export interface ParameterRequest extends Partial<ParameterSettings> {
  readonly name?: string;
  readonly kind?: ParameterKind;
  readonly shape?: readonly number[];
  readonly size?: number;
}

export function parameterOf({ name = 'w', kind = 'codes', size = 1, shape = [size], ...settings }: ParameterRequest): Parameter {
  return {
    name,
    kind,
    shape,
    size: shape.reduce((product, length) => product * length, 1),
    maxCode: kind === 'codes' ? 255 : 0,
    settings: { epsilon: 1, learningRate: 1, perturbBits: 8, sparsity: 0, ...settings },
  };
}

export const hooksFor = (options: QuzoInput): Hooks => hooksOf(quzoOptions.parse(options));

function trainedOf(parameter: Parameter): TrainedParameter {
  return {
    parameter,
    values: new Float32Array(parameter.size),
    layout: parameter.shape,
    slots: createSlots(parameter.size),
    fillMagnitudes: (out) => out.fill(0),
  };
}

/** A direction's elements in float64, and the s that the plugin states. */
export function elementsOf(hooks: Hooks, parameter: Parameter, draws: Draws, rounding: 'round1' | 'round2' = 'round1') {
  const { values, factor, secondMoment } = hooks.direction(parameter, draws, rounding, freshScratch);
  const elements = new Float64Array(values);
  for (let i = 0; i < elements.length; i++) elements[i] *= factor;
  return { elements, secondMoment };
}

/** Draws that differ from others in some streams alone. */
export const drawsWith = (draws: Draws, streams: readonly string[], others: Draws): Draws => ({
  ...others,
  key: (stream, tensor) => (streams.includes(stream) ? draws : others).key(stream, tensor),
});

export interface Problem {
  readonly loss: (x: Float64Array) => number;
  readonly start: Float64Array;
}

export interface EstimateRequest {
  readonly hooks: Hooks;
  readonly problem: Problem;
  readonly parameter: Parameter;
  readonly queries: number;
}

/** ĝ of a step: losses in float64 at the points the estimator asks for, and the step that follows, of which the updater sees ĝ. */
export function estimator({ hooks, problem: { loss, start }, parameter, queries }: EstimateRequest): (draws: Draws) => Float32Array {
  const trained = trainedOf(parameter);
  const scratch = createScratch();
  const { epsilon } = parameter.settings;
  const point = new Float64Array(start.length);
  let found: Float32Array = new Float32Array();
  const watched: Hooks = {
    ...hooks,
    updater({ gradient }) {
      found = gradient;
      return { changed: 0, clamped: 0 };
    },
  };
  return (draws) => {
    scratch.reset();
    const asked = Array.from({ length: queries }, (_, query) => {
      const own = draws.at(draws.step, query);
      const { values, factor } = selectedDirection(hooks, trained, own, 'round1', scratch);
      const radii = hooks.estimator.radii(own);
      const losses = radii.map((radius) => {
        for (let i = 0; i < point.length; i++) point[i] = start[i] + radius * epsilon * factor * values[i];
        return loss(point);
      });
      return { radii, losses };
    });
    const center = hooks.estimator.needsCenter ? loss(start) : undefined;
    const mu = hooks.estimator.slopes(asked, epsilon, center);
    takeStep({ trained: { parameters: [trained] }, hooks: watched, draws, mu, epsilon, rateShare: 1, scratch });
    return found;
  };
}

export interface Moments {
  /** Of each element. */
  readonly mean: Float64Array;
  /** Of each element, with the standard error of its mean. */
  readonly variance: Float64Array;
  readonly error: Float64Array;
  /** Mean of ‖ĝ − center‖². */
  readonly energy: number;
}

/** Moments of ĝ over steps 1 … samples below a seed; the energy is taken around a center. */
export function momentsOf(request: EstimateRequest, samples: number, seed: number, center: ArrayLike<number> = []): Moments {
  const size = request.problem.start.length;
  const estimate = estimator(request);
  const draws = createDraws(seed);
  const sums = new Float64Array(size);
  const squares = new Float64Array(size);
  let energy = 0;
  for (let step = 1; step <= samples; step++) {
    const found = estimate(draws.at(step, 0));
    for (let i = 0; i < size; i++) {
      sums[i] += found[i];
      squares[i] += found[i] ** 2;
      energy += (found[i] - (center[i] ?? 0)) ** 2;
    }
  }
  const mean = sums.map((sum) => sum / samples);
  const variance = squares.map((square, i) => (square / samples - mean[i] ** 2) * (samples / (samples - 1)));
  return { mean, variance, error: variance.map((v) => Math.sqrt(v / samples)), energy: energy / samples };
}

/** ½xᵀHx + bᵀx with a dense symmetric H, and its gradient at a point; entries from sines. */
export function quadratic(size: number): Problem & { readonly gradient: Float64Array } {
  const h = (i: number, j: number): number => Math.sin(1 + i * j + i + j) + (i === j ? 3 : 0);
  const b = Float64Array.from({ length: size }, (_, i) => 2 * Math.cos(3 * i + 1));
  const start = Float64Array.from({ length: size }, (_, i) => Math.sin(7 * i + 2));
  const matrix = Float64Array.from({ length: size ** 2 }, (_, at) => h(Math.floor(at / size), at % size));
  const times = (x: Float64Array, i: number): number => {
    let total = 0;
    for (let j = 0; j < size; j++) total += matrix[i * size + j] * x[j];
    return total;
  };
  return {
    start,
    gradient: start.map((_, i) => times(start, i) + b[i]),
    loss: (x) => {
      let total = 0;
      for (let i = 0; i < size; i++) total += x[i] * (times(x, i) / 2 + b[i]);
      return total;
    },
  };
}

/** Σ b·x + ½·x², b = ±1 or thereabouts, for many elements. */
export function wide(size: number): Problem & { readonly gradient: Float64Array } {
  const b = Float64Array.from({ length: size }, (_, i) => Math.cos(3 * i + 1));
  return {
    start: new Float64Array(size),
    gradient: b,
    loss: (x) => {
      let total = 0;
      for (let i = 0; i < size; i++) total += x[i] * (b[i] + x[i] / 2);
      return total;
    },
  };
}

export const squareNorm = (x: Float64Array): number => x.reduce((sum, value) => sum + value * value, 0);

export function correlation(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const n = Math.min(a.length, b.length);
  let [meanA, meanB] = [0, 0];
  for (let i = 0; i < n; i++) {
    meanA += a[i] / n;
    meanB += b[i] / n;
  }
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < n; i++) {
    ab += (a[i] - meanA) * (b[i] - meanB);
    aa += (a[i] - meanA) ** 2;
    bb += (b[i] - meanB) ** 2;
  }
  return ab / Math.sqrt(aa * bb);
}

/** Rank of a matrix by elimination with complete pivoting; pivots below a share of the first count as none. */
export function rankOf(elements: ArrayLike<number>, rows: number, columns: number, tolerance = 1e-5): number {
  const m = Array.from({ length: rows }, (_, i) => Array.from({ length: columns }, (__, j) => elements[i * columns + j]));
  let first = 0;
  for (let rank = 0; rank < Math.min(rows, columns); rank++) {
    let [best, at, bt] = [0, rank, rank];
    for (let i = rank; i < rows; i++) {
      for (let j = rank; j < columns; j++) if (Math.abs(m[i][j]) > best) [best, at, bt] = [Math.abs(m[i][j]), i, j];
    }
    first ||= best;
    if (best <= tolerance * first) return rank;
    [m[rank], m[at]] = [m[at], m[rank]];
    for (const row of m) [row[rank], row[bt]] = [row[bt], row[rank]];
    for (let i = rank + 1; i < rows; i++) {
      const share = m[i][rank] / m[rank][rank];
      for (let j = rank; j < columns; j++) m[i][j] -= share * m[rank][j];
    }
  }
  return Math.min(rows, columns);
}
