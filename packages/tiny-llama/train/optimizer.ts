// AdamW as a graph: new parameters and moments from old ones and gradients, so that a whole training step is one evaluation.
import { add, div, minimum, mul, sqrt, square, sub, sum, type Tensor, tensor } from '@lowbit/core';

/** Loshchilov and Hutter, arXiv 1711.05101. */
export interface AdamWOptions {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Decay of each parameter towards zero, relative to the learning rate; by name because norms and embeddings have none. */
  readonly weightDecay: (name: string) => number;
  /** Gradients are scaled down to this global norm (Pascanu et al., arXiv 1211.5063). */
  readonly clipNorm: number;
}

/** Parameters and their moments by name, all leaves. */
export interface OptimizerState {
  readonly parameters: ReadonlyMap<string, Tensor>;
  readonly first: ReadonlyMap<string, Tensor>;
  readonly second: ReadonlyMap<string, Tensor>;
}

export interface OptimizerUpdate {
  readonly state: OptimizerState;
  /** Global gradient norm before clipping, a scalar. */
  readonly gradientNorm: Tensor;
}

/** Zero moments for fresh parameters. */
export function initialState(parameters: ReadonlyMap<string, Tensor>): OptimizerState {
  const zeros = (): Map<string, Tensor> =>
    new Map([...parameters].map(([name, { shape, size }]) => [name, tensor(new Float32Array(size), shape)]));
  return { parameters, first: zeros(), second: zeros() };
}

/** Update number `step`, counted from 1. Learning rate and step enter as leaves, so that all steps share one compiled graph. */
export function adamW(
  state: OptimizerState,
  gradients: ReadonlyMap<string, Tensor>,
  step: number,
  learningRate: number,
  { beta1, beta2, epsilon, weightDecay, clipNorm }: AdamWOptions,
): OptimizerUpdate {
  const rate = tensor(learningRate);
  // m̂ / (√v̂ + ε) = m · c / (√v + ε√(1−β₂ᵗ)) with c = √(1−β₂ᵗ) / (1−β₁ᵗ): two scalars instead of two scaled copies of the moments.
  const secondCorrection = Math.sqrt(1 - beta2 ** step);
  const stepSize = tensor((learningRate * secondCorrection) / (1 - beta1 ** step));
  const correctedEpsilon = tensor(epsilon * secondCorrection);
  const gradientNorm = sqrt([...gradients.values()].map((g) => sum(square(g))).reduce((a, b) => add(a, b)));
  const shrink = minimum(1, div(clipNorm, add(gradientNorm, 1e-6)));
  const parameters = new Map<string, Tensor>();
  const first = new Map<string, Tensor>();
  const second = new Map<string, Tensor>();
  for (const [name, parameter] of state.parameters) {
    const g = mul(entry(gradients, name), shrink);
    const m = add(mul(entry(state.first, name), beta1), mul(g, 1 - beta1));
    const v = add(mul(entry(state.second, name), beta2), mul(square(g), 1 - beta2));
    const decay = weightDecay(name);
    const decayed = decay === 0 ? parameter : mul(parameter, sub(1, mul(rate, decay)));
    parameters.set(name, sub(decayed, div(mul(m, stepSize), add(sqrt(v), correctedEpsilon))));
    first.set(name, m);
    second.set(name, v);
  }
  return { state: { parameters, first, second }, gradientNorm };
}

function entry(map: ReadonlyMap<string, Tensor>, name: string): Tensor {
  return map.get(name) as Tensor;
}
