// One step of all parameters, from the directional derivatives of its queries.
import { selectedDirection } from '../direction/masked.js';
import type { Applied, Draws, Hooks } from '../hooks.js';
import type { ReusedScratch } from '../perturbation/scratch.js';
import type { TrainedModel } from '../perturbation/trained.js';

export interface StepRequest {
  readonly trained: Pick<TrainedModel, 'parameters'>;
  readonly hooks: Hooks;
  /** Of the step; its queries are addressed below it. */
  readonly draws: Draws;
  /** μ of each query, for the ε of the step: a parameter with another one has its own. */
  readonly mu: readonly number[];
  readonly epsilon: number;
  /** Learning rate of the step as a share of its peak. */
  readonly rateShare: number;
  readonly scratch: ReusedScratch;
}

/** ĝ = mean over queries of μ · q / s, and the updater's step along it, one parameter at a time. Elements change in place. */
export function takeStep({ trained, hooks, draws, mu, epsilon, rateShare, scratch }: StepRequest): Applied {
  let [changed, clamped] = [0, 0];
  for (const one of trained.parameters) {
    const { parameter, values, slots } = one;
    scratch.reset();
    const gradient = scratch.float32(parameter.size).fill(0);
    const release = scratch.mark();
    for (const [query, slope] of mu.entries()) {
      release();
      const direction = selectedDirection(hooks, one, draws.at(draws.step, query), hooks.estimator.updateRounding, scratch);
      const moment = hooks.estimator.isDebiased ? direction.secondMoment : 1;
      const weight = (slope * epsilon * direction.factor) / (parameter.settings.epsilon * mu.length * moment);
      addScaled(gradient, direction.values, weight);
    }
    const applied = hooks.updater({
      parameter,
      values,
      gradient,
      learningRate: parameter.settings.learningRate * rateShare,
      draws,
      slots,
    });
    changed += applied.changed;
    clamped += applied.clamped;
  }
  return { changed, clamped };
}

function addScaled(total: Float32Array, values: Int8Array | Float32Array, weight: number): void {
  for (let i = 0; i < values.length; i++) total[i] += weight * values[i];
}
