// Stochastic gradient descent with momentum as a graph.
import { add, mul, sub, type Tensor, tensor } from '@lowbit/core';
import {
  entryOf,
  type GradientOptions,
  type NamedTensors,
  type Optimizer,
  type OptimizerState,
  prepareUpdate,
  zerosLike,
} from './optimizer.js';

export interface SgdOptions extends GradientOptions {
  /** Share of the last update's direction that goes on. Default: 0, which keeps no state. */
  readonly momentum?: number;
}

/** v ← momentum · v + g, p ← p − learning rate · v (Polyak's heavy ball; the first v is the first gradient). */
export function sgd(options: SgdOptions = {}): Optimizer {
  const { momentum = 0 } = options;
  const slotsOf = (velocity: NamedTensors): OptimizerState['slots'] => (momentum === 0 ? {} : { velocity });
  return {
    start: (parameters) => ({ parameters, slots: slotsOf(zerosLike(parameters)) }),
    update(state, gradients, _step, learningRate, gradientNorm) {
      const rate = tensor(learningRate);
      const prepared = prepareUpdate(state, gradients, learningRate, options, gradientNorm);
      const parameters = new Map<string, Tensor>();
      const velocity = new Map<string, Tensor>();
      for (const { name, decayed, gradient, rateFactor } of prepared.parameters) {
        const direction = momentum === 0 ? gradient : add(mul(entryOf(state.slots.velocity, name), momentum), gradient);
        parameters.set(name, sub(decayed, mul(direction, rateFactor === 1 ? rate : mul(rate, rateFactor))));
        velocity.set(name, direction);
      }
      return { state: { parameters, slots: slotsOf(velocity) }, gradientNorm: prepared.gradientNorm };
    },
  };
}
