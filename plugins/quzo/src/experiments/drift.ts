// What perturbing in place leaves behind when nothing is learned.
import {
  add,
  type Backend,
  type ClaimVerdict,
  type ComputedExperiment,
  cast,
  type ExperimentClaim,
  type ExperimentContext,
  type ExperimentRow,
  mul,
  readFloats,
  roundHalfEven,
  roundToBfloat16,
  roundToFloat16,
  sum,
  type Tensor,
  tensor,
  throwIfAborted,
} from '@lowbit/core';
import { logarithmic, sampleOf, show } from '@lowbit/core/experiments';
import { directionOf } from '../direction/direction.js';
import { createDraws } from '../direction/keys.js';
import type { Draws } from '../hooks.js';
import { freshScratch, parameterOf, runSeedOf } from './draws.js';

const SIZE = 8192;
/** Of the weights: that of a layer some thousand wide. */
const DEVIATION = 0.02;
const EPSILON = 1e-3;
const LAST = 1000;

const formats: Readonly<Record<string, (x: number) => number>> = {
  float32: Math.fround,
  float16: roundToFloat16,
  bfloat16: roundToBfloat16,
};

/** How many times the direction is added in the walk θ → θ + εu → θ − εu → θ. */
const walk = [1, -2, 1];

/** σ of the codes' perturbation. */
const SIGMA = 0.5;

const bitsOfCodes = [8, 4, 2];
const GROUP = 32;

/** Codes whose ends are the extremes of each group of weights. */
function codesOf(weights: Float32Array, maxCode: number): Float64Array {
  const codes = new Float64Array(weights.length);
  for (let start = 0; start < weights.length; start += GROUP) {
    const group = weights.subarray(start, start + GROUP);
    const [least, most] = [Math.min(...group), Math.max(...group)];
    codes.set(
      Float64Array.from(group, (x) => roundHalfEven((maxCode * (x - least)) / (most - least))),
      start,
    );
  }
  return codes;
}

/** Perturbs values and undoes it, whatever is left of it. */
type Trip = (values: Float64Array, draws: Draws) => void | Promise<void>;

/** Every operation rounded once, as on tensors of the format: θ ← θ + (k·u)·ε. */
function inFormat(round: (x: number) => number): Trip {
  const direction = directionOf({ distribution: 'gaussian', isRounded: false });
  const parameter = parameterOf('weights', 'weights', SIZE, {});
  return (values, draws) => {
    const u = direction(parameter, draws, 'round1', freshScratch).values;
    for (let i = 0; i < SIZE; i++) {
      const drawn = round(u[i]);
      for (const times of walk) values[i] = round(values[i] + round(round(times * drawn) * EPSILON));
    }
  };
}

/** Codes that are kept on their grid at every stop of the walk. */
function onGrid(maxCode: number): Trip {
  const direction = directionOf({ distribution: 'gaussian', isRounded: true });
  const parameter = parameterOf('codes', 'codes', SIZE, { epsilon: SIGMA });
  return (values, draws) => {
    const q = direction(parameter, draws, 'round1', freshScratch).values;
    for (let i = 0; i < SIZE; i++) {
      for (const times of walk) values[i] = Math.min(maxCode, Math.max(0, values[i] + times * q[i]));
    }
  };
}

/** As the plugin perturbs: expressions over a tensor that nothing writes to. What is looked at afterwards is the tensor. */
function byExpressions(backend: Backend): Trip {
  const direction = directionOf({ distribution: 'rademacher', isRounded: false });
  const parameter = parameterOf('weights', 'weights', SIZE, {});
  let weights: Tensor | undefined;
  return async (values, draws) => {
    weights ??= tensor(Float32Array.from(values), [SIZE]);
    const u = cast(tensor(direction(parameter, draws, 'round1', freshScratch).values, [SIZE]), 'float32');
    for (const radius of [1, -1]) {
      const [moved] = await backend.evaluate([sum(add(weights, mul(u, tensor(radius * EPSILON))))]);
      await readFloats(moved);
    }
    values.set(await readFloats(weights));
  };
}

/** What is left of each number of trips. */
async function leftOver(start: Float64Array, trip: Trip, root: Draws, steps: readonly number[]): Promise<ExperimentRow[]> {
  const rows: ExperimentRow[] = [];
  const mean = start.reduce((total, x) => total + x, 0) / SIZE;
  const spread = start.reduce((total, x) => total + (x - mean) ** 2, 0);
  const values = start.slice();
  for (let step = 1; step <= Math.max(...steps); step++) {
    await trip(values, root.at(step, 0));
    if (!steps.includes(step)) continue;
    let [changed, energy] = [0, 0];
    for (let i = 0; i < SIZE; i++) {
      energy += (values[i] - start[i]) ** 2;
      if (values[i] !== start[i]) changed++;
    }
    rows.push({ steps: step, changed: changed / SIZE, 'relative error': Math.sqrt(energy / spread) });
  }
  return rows;
}

const FUNCTIONAL = 'expressions over float32 (here)';

/** A row for each way to perturb after each of some numbers of steps. */
export async function driftRows(context: ExperimentContext, steps: readonly number[]): Promise<ExperimentRow[]> {
  const { backend, rng, signal, progress } = context;
  const root = createDraws(runSeedOf(rng));
  const normal = rng.at('weights').normal(SIZE);
  const floats = (round: (x: number) => number): Float64Array => Float64Array.from(normal, (x) => round(DEVIATION * x));
  const ways: (readonly [string, Float64Array, Trip])[] = [
    ...Object.entries(formats).map(([format, round]) => [`${format}, in place`, floats(round), inFormat(round)] as const),
    ...bitsOfCodes.map((bits) => [`INT${bits} in place, cut at its ends`, codesOf(normal, 2 ** bits - 1), onGrid(2 ** bits - 1)] as const),
    [FUNCTIONAL, floats(Math.fround), byExpressions(backend)],
  ];
  const rows: ExperimentRow[] = [];
  for (const [done, [perturbed, start, trip]] of ways.entries()) {
    throwIfAborted(signal);
    progress?.(done, ways.length);
    rows.push(...(await leftOver(start, trip, root, steps)).map((row) => ({ perturbed, ...row })));
  }
  return rows;
}

/** The relative error of each way to perturb at the last step. */
function verdictOn(perturbed: string, rows: readonly ExperimentRow[], judge: (error: number) => boolean): ClaimVerdict[] {
  const error = sampleOf(rows, { perturbed, steps: LAST }, 'relative error')?.mean;
  const changed = sampleOf(rows, { perturbed, steps: LAST }, 'changed')?.mean;
  if (error === undefined || changed === undefined) return [];
  const evidence = `${show(100 * changed)} % of the elements differ, by ${show(error)} of the weights' deviation`;
  return [{ subject: `${perturbed}, ${LAST} steps`, holds: judge(error), evidence }];
}

const exact: ExperimentClaim = {
  name: 'B2-restore',
  statement: 'Perturbing by expressions leaves every element as it was',
  check: (rows) => verdictOn(FUNCTIONAL, rows, (error) => error === 0),
};

const drifts: ExperimentClaim = {
  name: 'drift',
  statement: `In place, ${LAST} steps that learn nothing move weights in 16-bit formats by more than 1 % of their deviation, in float32 by less than 0.01 %`,
  check: (rows) =>
    Object.keys(formats).flatMap((format) =>
      verdictOn(`${format}, in place`, rows, (error) => (format === 'float32' ? error < 1e-4 : error > 1e-2)),
    ),
};

export const drift: ComputedExperiment = {
  name: 'drift',
  title: 'What perturbing in place and undoing it leaves behind',
  description:
    `MeZO adds εu to the weights, takes 2εu away and adds εu again, in the format that the weights are stored in; on codes a perturbation is cut at the ends of the grid. None of this restores what was there. ${SIZE} normal weights of deviation ${DEVIATION}, ε = ${EPSILON}, ` +
    `codes over the range of each ${GROUP} of them with σ = ${SIGMA}; nothing is learned, so that all that changes is error: the share of elements that differ after some steps, and their distance relative to the deviation of the weights. Every operation is rounded once, as on tensors of the format. ` +
    'This plugin writes nothing: the perturbed weights are expressions, and the weights themselves are read back at the end.',
  source: 'arXiv 2305.17333, algorithm 1; codes as in quantized evolution strategies',
  compute: (context) => driftRows(context, [1, 10, 100, LAST]),
  table: { rows: ['perturbed'], columns: 'steps', values: ['relative error', 'changed'] },
  figure: {
    width: 420,
    height: 260,
    transform: [{ filter: "datum['relative error'] > 0" }],
    mark: { type: 'line', point: { size: 40 } },
    encoding: {
      x: { field: 'steps', type: 'quantitative', title: 'steps', scale: logarithmic },
      y: { field: 'relative error', type: 'quantitative', title: 'error, deviations of the weights', scale: logarithmic },
      color: { field: 'perturbed', type: 'nominal', title: null },
    },
  },
  claims: [exact, drifts],
};
