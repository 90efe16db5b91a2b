// Adam and AdamW as a graph: new parameters and moments from old ones and gradients.
import { add, div, mul, sqrt, square, sub, type Tensor, tensor } from '@lowbit/core';
import { entryOf, type GradientOptions, type Optimizer, prepareUpdate, zerosLike } from './optimizer.js';

export interface AdamOptions extends GradientOptions {
  /** Decay of the mean of gradients. Default: 0.9. */
  readonly beta1?: number;
  /** Decay of the mean of their squares. Default: 0.999. */
  readonly beta2?: number;
  /** Added to √v̂: gradients far below it move parameters less than the learning rate. Default: 1e-8. */
  readonly epsilon?: number;
}

/**
 * Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1); with decoupled weight decay it is AdamW (Loshchilov and Hutter, arXiv 1711.05101).
 */
export function adam(options: AdamOptions = {}): Optimizer {
  const { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 } = options;
  return {
    start: (parameters) => ({ parameters, slots: { first: zerosLike(parameters), second: zerosLike(parameters) } }),
    update(state, gradients, step, learningRate, gradientNorm) {
      // m̂ / (√v̂ + ε) = m · c / (√v + ε√(1−β₂ᵗ)) with c = √(1−β₂ᵗ) / (1−β₁ᵗ): two scalars instead of two scaled copies of the moments.
      const secondCorrection = Math.sqrt(1 - beta2 ** step);
      const stepSize = tensor((learningRate * secondCorrection) / (1 - beta1 ** step));
      const correctedEpsilon = tensor(epsilon * secondCorrection);
      const prepared = prepareUpdate(state, gradients, learningRate, options, gradientNorm);
      const parameters = new Map<string, Tensor>();
      const first = new Map<string, Tensor>();
      const second = new Map<string, Tensor>();
      for (const { name, decayed, gradient: g, rateFactor } of prepared.parameters) {
        const m = add(mul(entryOf(state.slots.first, name), beta1), mul(g, 1 - beta1));
        const v = add(mul(entryOf(state.slots.second, name), beta2), mul(square(g), 1 - beta2));
        const size = rateFactor === 1 ? stepSize : mul(stepSize, rateFactor);
        parameters.set(name, sub(decayed, div(mul(m, size), add(sqrt(v), correctedEpsilon))));
        first.set(name, m);
        second.set(name, v);
      }
      return { state: { parameters, slots: { first, second } }, gradientNorm: prepared.gradientNorm };
    },
  };
}
