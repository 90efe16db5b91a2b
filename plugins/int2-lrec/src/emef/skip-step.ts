// Steps that are left out.
import { less, type Tensor, where } from '@lowbit/core';
import type { NamedTensors, Optimizer } from '@lowbit/train';

/** An optimizer for which gradients that are all zero are no step: parameters and moments stay, to the bit. */
export function skippingZeros(optimizer: Optimizer): Optimizer {
  return {
    start: optimizer.start,
    update(state, gradients, step, learningRate, norm) {
      const { state: moved, gradientNorm } = optimizer.update(state, gradients, step, learningRate, norm);
      const isStep = less(0, gradientNorm);
      const select = (to: NamedTensors, from: NamedTensors): NamedTensors =>
        new Map([...to].map(([name, t]): [string, Tensor] => [name, where(isStep, t, from.get(name) as Tensor)]));
      const slots = Object.entries(moved.slots).map(([slot, values]) => [slot, select(values, state.slots[slot])]);
      return { state: { parameters: select(moved.parameters, state.parameters), slots: Object.fromEntries(slots) }, gradientNorm };
    },
  };
}
