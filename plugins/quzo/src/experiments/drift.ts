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
  roundToBfloat16,
  roundToFloat16,
  sum,
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
const steps = [1, 10, 100, 1000];
const LAST = steps[steps.length - 1];

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
      Float64Array.from(group, (x) => Math.round((maxCode * (x - least)) / (most - least))),
      start,
    );
  }
  return codes;
}

type Progress = (values: Float64Array, step: number) => void;

/** Every operation rounded once, as on tensors of the format: θ ← θ + (k·u)·ε. */
function walkFloats(values: Float64Array, round: (x: number) => number, root: Draws, after: Progress): void {
  const direction = directionOf({ distribution: 'gaussian', isRounded: false });
  const parameter = parameterOf('weights', 'weights', SIZE, {});
  for (let step = 1; step <= LAST; step++) {
    const u = direction(parameter, root.at(step, 0), 'round1', freshScratch).values;
    for (let i = 0; i < SIZE; i++) {
      const drawn = round(u[i]);
      for (const times of walk) values[i] = round(values[i] + round(round(times * drawn) * EPSILON));
    }
    after(values, step);
  }
}

/** Codes that are kept on their grid at every stop of the walk. */
function walkCodes(values: Float64Array, maxCode: number, root: Draws, after: Progress): void {
  const direction = directionOf({ distribution: 'gaussian', isRounded: true });
  const parameter = parameterOf('codes', 'codes', SIZE, { epsilon: SIGMA });
  for (let step = 1; step <= LAST; step++) {
    const q = direction(parameter, root.at(step, 0), 'round1', freshScratch).values;
    for (let i = 0; i < SIZE; i++) {
      for (const times of walk) values[i] = Math.min(maxCode, Math.max(0, values[i] + times * q[i]));
    }
    after(values, step);
  }
}

/** As the plugin perturbs: expressions over a tensor that nothing writes to. What is looked at afterwards is the tensor. */
async function evaluateFunctional(values: Float64Array, root: Draws, backend: Backend, after: Progress): Promise<void> {
  const direction = directionOf({ distribution: 'rademacher', isRounded: false });
  const parameter = parameterOf('weights', 'weights', SIZE, {});
  const weights = tensor(Float32Array.from(values), [SIZE]);
  for (let step = 1; step <= LAST; step++) {
    const u = cast(tensor(direction(parameter, root.at(step, 0), 'round1', freshScratch).values, [SIZE]), 'float32');
    for (const radius of [1, -1]) {
      const [moved] = await backend.evaluate([sum(add(weights, mul(u, tensor(radius * EPSILON))))]);
      await readFloats(moved);
    }
    if (steps.includes(step)) values.set(await readFloats(weights));
    after(values, step);
  }
}

/** Rows of one walk at the steps that are shown. */
async function measured(fields: ExperimentRow, start: Float64Array, run: (values: Float64Array, after: Progress) => unknown) {
  const rows: ExperimentRow[] = [];
  const mean = start.reduce((sum, x) => sum + x, 0) / SIZE;
  const spread = start.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  await run(start.slice(), (values, step) => {
    if (!steps.includes(step)) return;
    let [changed, energy] = [0, 0];
    for (let i = 0; i < SIZE; i++) {
      energy += (values[i] - start[i]) ** 2;
      if (values[i] !== start[i]) changed++;
    }
    rows.push({ ...fields, steps: step, changed: changed / SIZE, 'relative error': Math.sqrt(energy / spread) });
  });
  return rows;
}

const FUNCTIONAL = 'expressions over float32 (here)';

async function compute({ backend, rng, signal, progress }: ExperimentContext): Promise<ExperimentRow[]> {
  const root = createDraws(runSeedOf(rng));
  const normal = rng.at('weights').normal(SIZE);
  const floats = (round: (x: number) => number): Float64Array => Float64Array.from(normal, (x) => round(DEVIATION * x));
  const walks = [
    ...Object.entries(formats).map(
      ([format, round]) =>
        () =>
          measured({ perturbed: `${format}, in place` }, floats(round), (values, after) => walkFloats(values, round, root, after)),
    ),
    ...bitsOfCodes.map((bits) => () => {
      const maxCode = 2 ** bits - 1;
      const perturbed = `INT${bits} in place, cut at its ends`;
      return measured({ perturbed }, codesOf(normal, maxCode), (values, after) => walkCodes(values, maxCode, root, after));
    }),
    () => measured({ perturbed: FUNCTIONAL }, floats(Math.fround), (values, after) => evaluateFunctional(values, root, backend, after)),
  ];
  const rows: ExperimentRow[] = [];
  for (const [done, walk] of walks.entries()) {
    throwIfAborted(signal);
    progress?.(done, walks.length);
    rows.push(...(await walk()));
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
  compute,
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
