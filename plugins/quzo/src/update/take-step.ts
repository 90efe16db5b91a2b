// One step of all parameters, from the directional derivatives of its queries.
import { selectedDirection } from '../direction/masked.js';
import type { Applied, Draws, Hooks, Part } from '../hooks.js';
import type { ReusedScratch } from '../perturbation/scratch.js';
import type { TrainedModel, TrainedParameter } from '../perturbation/trained.js';
import type { Slots } from './slots.js';
import { carryOn } from './updater.js';

/** A step by what the log of a run says of it. */
export interface LoggedStep {
  /** Of the step; its queries are addressed below it. */
  readonly draws: Draws;
  /** μ of each query, for the ε of the step: a parameter with another one has its own. */
  readonly mu: readonly number[];
  /** Learning rate of the step as a share of its peak. */
  readonly rateShare: number;
}

/** What a carry is rebuilt from where it is not kept. */
export interface Past {
  /** The last steps that were taken, the latest last. */
  readonly steps: readonly LoggedStep[];
  /** Share of the carry that stays from step to step. */
  readonly decay: number;
}

export interface StepRequest extends LoggedStep {
  readonly trained: Pick<TrainedModel, 'parameters'>;
  readonly hooks: Hooks;
  readonly epsilon: number;
  readonly scratch: ReusedScratch;
  readonly past?: Past | undefined;
}

/** Codes whose carry exists at a time: they stay in the caches while the steps of a window pass over them. */
const TILE = 2 ** 16;

/** ĝ = mean over queries of μ · q / s, and the updater's step along it, one parameter at a time. Elements change in place. */
export function takeStep(request: StepRequest): Applied {
  const { trained, hooks, scratch, draws, rateShare, past } = request;
  let [changed, clamped] = [0, 0];
  for (const one of trained.parameters) {
    const { parameter, values } = one;
    const isRebuilt = past !== undefined && parameter.kind === 'codes';
    const tile = isRebuilt ? TILE : parameter.size;
    for (let start = 0; start < parameter.size; start += tile) {
      const part: Part = { start, end: Math.min(start + tile, parameter.size) };
      scratch.reset();
      const gradient = scratch.float32(part.end - part.start);
      const slots = isRebuilt ? rebuiltSlots(request, one, past, part, gradient) : one.slots;
      estimate(request, one, request, part, gradient);
      const applied = hooks.updater({
        parameter,
        values: values.subarray(part.start, part.end),
        gradient,
        learningRate: parameter.settings.learningRate * rateShare,
        draws,
        slots,
      });
      changed += applied.changed;
      clamped += applied.clamped;
    }
  }
  return { changed, clamped };
}

/** The carry that earlier steps have left, in a buffer of the moment: each is taken again, from none. */
function rebuiltSlots(request: StepRequest, one: TrainedParameter, { steps, decay }: Past, part: Part, gradient: Float32Array): Slots {
  const { maxCode, settings } = one.parameter;
  const carry = request.scratch.float32(gradient.length).fill(0);
  for (const step of steps) {
    estimate(request, one, step, part, gradient);
    carryOn(carry, { gradient, learningRate: settings.learningRate * step.rateShare, maxCode, decay });
  }
  return { ...one.slots, float32: (name) => (name === 'carry' ? carry : one.slots.float32(name)) };
}

/** ĝ of a step, whenever it was taken: draws have addresses. */
function estimate(
  { hooks, epsilon, scratch }: StepRequest,
  one: TrainedParameter,
  { draws, mu }: LoggedStep,
  part: Part,
  gradient: Float32Array,
): void {
  gradient.fill(0);
  const release = scratch.mark();
  for (const [query, slope] of mu.entries()) {
    release();
    const direction = selectedDirection(hooks, one, draws.at(draws.step, query), hooks.estimator.updateRounding, scratch, part);
    const moment = hooks.estimator.isDebiased ? direction.secondMoment : 1;
    const weight = (slope * epsilon * direction.factor) / (one.parameter.settings.epsilon * mu.length * moment);
    addScaled(gradient, direction.values, weight);
  }
  release();
}

function addScaled(total: Float32Array, values: Int8Array | Float32Array, weight: number): void {
  for (let i = 0; i < values.length; i++) total[i] += weight * values[i];
}
