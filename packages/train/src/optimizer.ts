// What an optimizer is, and what all of them do to gradients first: clipping, weight decay.
import { add, div, minimum, mul, sqrt, square, sub, sum, type Tensor, tensor } from '@lowbit/core';

/** Tensors by name, in a fixed order. */
export type NamedTensors = ReadonlyMap<string, Tensor>;

/** Everything that one step hands to the next. */
export interface OptimizerState {
  readonly parameters: NamedTensors;
  /** What the optimizer remembers of each parameter, of its shape, by what it is: 'first' and 'second' moments. */
  readonly slots: Readonly<Record<string, NamedTensors>>;
}

export interface OptimizerUpdate {
  /** Expressions over the old state and the gradients. */
  readonly state: OptimizerState;
  /** Global norm of the gradients before clipping, a scalar; costs nothing unless it is evaluated. */
  readonly gradientNorm: Tensor;
}

/** Builds graphs; evaluating them is the caller's, together with whatever the gradients come from. */
export interface Optimizer {
  /** The state before the first step. */
  start(parameters: NamedTensors): OptimizerState;
  /**
   * Update number `step`, counted from 1. Learning rate and step enter as leaves, so that all steps share one compiled program.
   * @param gradientNorm the global norm, where the state and the gradients are a part of all: one optimizer around another must pass it on.
   *   Default: that of the gradients given.
   */
  update(state: OptimizerState, gradients: NamedTensors, step: number, learningRate: number, gradientNorm?: Tensor): OptimizerUpdate;
}

/** Global norm of gradients, a scalar. */
export function normOf(gradients: NamedTensors): Tensor {
  return sqrt([...gradients.values()].map((g) => sum(square(g))).reduce((a, b) => add(a, b)));
}

/** Options of every optimizer. */
export interface GradientOptions {
  /** Strength of the pull towards zero, for all parameters or by name (norms and embeddings often have none). Default: 0. */
  readonly weightDecay?: number | ((name: string) => number);
  /**
   * 'decoupled': the parameter shrinks by learning rate · decay (AdamW, arXiv 1711.05101); 'l2': decay · parameter is added to the
   * gradient. Default: 'decoupled'.
   */
  readonly decay?: 'decoupled' | 'l2';
  /** Gradients are scaled down to this global norm (Pascanu et al., arXiv 1211.5063); not at all by default. */
  readonly clipNorm?: number;
  /** Factor of the learning rate by parameter name. Default: 1 for all. */
  readonly rateFactor?: (name: string) => number;
}

/** One parameter's part in an update, after what all optimizers do. */
interface PreparedParameter {
  readonly name: string;
  /** The parameter, shrunk by decoupled weight decay. */
  readonly decayed: Tensor;
  /** Clipped, with an L2 penalty's gradient. */
  readonly gradient: Tensor;
  readonly rateFactor: number;
}

export interface PreparedUpdate {
  readonly parameters: readonly PreparedParameter[];
  readonly gradientNorm: Tensor;
}

/** Clipping and weight decay. */
export function prepareUpdate(
  { parameters }: OptimizerState,
  gradients: NamedTensors,
  learningRate: number,
  { weightDecay = 0, decay: kind = 'decoupled', clipNorm, rateFactor = () => 1 }: GradientOptions,
  gradientNorm = normOf(gradients),
): PreparedUpdate {
  const rate = tensor(learningRate);
  const shrink = clipNorm === undefined ? undefined : minimum(1, div(clipNorm, add(gradientNorm, 1e-6)));
  const prepared = [...parameters].map(([name, parameter]): PreparedParameter => {
    const raw = entryOf(gradients, name);
    const clipped = shrink ? mul(raw, shrink) : raw;
    const decay = typeof weightDecay === 'number' ? weightDecay : weightDecay(name);
    const factor = rateFactor(name);
    return {
      name,
      decayed: decay === 0 || kind === 'l2' ? parameter : mul(parameter, sub(1, mul(rate, decay * factor))),
      gradient: decay === 0 || kind === 'decoupled' ? clipped : add(clipped, mul(parameter, decay)),
      rateFactor: factor,
    };
  });
  return { parameters: prepared, gradientNorm };
}

/** Zeros of every parameter's shape. */
export function zerosLike(parameters: NamedTensors): NamedTensors {
  return new Map([...parameters].map(([name, { shape, size }]) => [name, tensor(new Float32Array(size), shape)]));
}

/** The entry of a map that has one for every parameter. */
export function entryOf(map: NamedTensors, name: string): Tensor {
  return map.get(name) as Tensor;
}
