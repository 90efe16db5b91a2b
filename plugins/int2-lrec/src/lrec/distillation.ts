// The losses of LREC and RILQ over a model, one block at a time.
import { add, type Backend, crossEntropy, type Model, mean, mul, type Rng, square, sub, sum, type Tensor, tensor } from '@lowbit/core';
import {
  modelGradients,
  modelLoss,
  type NamedTensors,
  type PositionsLoss,
  positionWeights,
  type StagedLoss,
  type StagedValue,
  type WindowBatch,
  withParameters,
} from '@lowbit/train';
import { withDropout } from './dropout.js';
import type { LrecOptions } from './options.js';
import type { Teacher } from './teacher.js';

/** Weights of the terms, each averaged over tokens. */
export interface LossWeights {
  /** KL(dense‖corrected), in nats. */
  readonly kl: number;
  /** Cross-entropy of the next token, in nats. */
  readonly ce: number;
  /** Mean square error of the hidden state after the last norm. */
  readonly hidden: number;
}

/**
 * Weights of an objective, for windows of `tokens`. The published losses sum the KL over the tokens of a window and average the
 * cross-entropy: L = kl · Σ_t KL_t + ce · CE = (kl · tokens) · KL + ce · CE.
 */
export function lossWeights(
  { objective, lambdaCe, legacyWeights }: Pick<LrecOptions, 'objective' | 'lambdaCe' | 'legacyWeights'>,
  tokens: number,
): LossWeights {
  if (objective === 'hidden') return { kl: 0, ce: 0.5, hidden: 0.5 };
  return legacyWeights ? { kl: legacyWeights.kl * tokens, ce: legacyWeights.ce, hidden: 0 } : { kl: 1, ce: lambdaCe, hidden: 0 };
}

export interface Distillation {
  readonly backend: Backend;
  /** With adapters. */
  readonly student: Model;
  readonly teacher: Teacher;
  readonly weights: LossWeights;
  /** Share of the inputs that a Linear's adapter does not see while training, by path. */
  readonly dropout: (path: string) => number;
  /** Draws what is dropped, addressed by step. */
  readonly rng: Rng;
}

/** What is trained on. */
export function trainedLoss({ backend, student, teacher, weights, dropout, rng }: Distillation): StagedLoss<WindowBatch> {
  const hasDropout = student.blocks.some(({ path, linears }) => Object.keys(linears).some((name) => dropout(`${path}.${name}`) > 0));
  return {
    async value(parameters, batch) {
      const lossOf = await positionsLoss(teacher, weights, batch);
      return (await modelLoss({ backend, model: withParameters(student, parameters), tokens: batch.tokens, lossOf })).loss;
    },
    async gradients(parameters, batch, step) {
      const model = hasDropout ? withDropout(student, batch.tokens.shape, dropout, rng.at(step)) : student;
      return modelGradients({ backend, model, tokens: batch.tokens, parameters, lossOf: await positionsLoss(teacher, weights, batch) });
    },
  };
}

/** What is judged on: the KL divergence to the dense model a token, whatever is trained on. */
export function judgedDivergence({ backend, student, teacher }: Distillation): StagedValue<WindowBatch> {
  return {
    async value(parameters: NamedTensors, batch: WindowBatch) {
      const lossOf = await positionsLoss(teacher, { kl: 1, ce: 0, hidden: 0 }, batch);
      return (await modelLoss({ backend, model: withParameters(student, parameters), tokens: batch.tokens, lossOf })).loss;
    },
  };
}

/** The loss of positions of a batch: terms of weight 0 are not computed. */
export async function positionsLoss(teacher: Teacher, weights: LossWeights, batch: WindowBatch): Promise<PositionsLoss> {
  const targets = await teacher.targetsOf(batch.tokens);
  const { everyToken, nextToken, next } = await positionWeights(batch);
  const weigh = (values: Tensor, by: Float32Array): Tensor => sum(mul(values, tensor(by)));
  return (model, hidden, start, end) => {
    const own = model.norm.forward(hidden);
    const logits = model.head.forward(own);
    const terms: Record<string, [weight: number, value: Tensor]> = {};
    if (weights.kl > 0) terms['kl'] = [weights.kl, weigh(targets.divergence(logits, start, end), everyToken.subarray(start, end))];
    if (weights.hidden > 0 && targets.hidden) {
      const errors = mean(square(sub(own, targets.hidden(start, end))), [-1]);
      terms['hidden'] = [weights.hidden, weigh(errors, everyToken.subarray(start, end))];
    }
    if (weights.ce > 0) {
      terms['ce'] = [weights.ce, weigh(crossEntropy(logits, tensor(next.subarray(start, end))), nextToken.subarray(start, end))];
    }
    const parts = Object.fromEntries(Object.entries(terms).map(([name, [, value]]) => [name, value]));
    const loss = Object.values(terms)
      .map(([weight, value]) => mul(value, weight))
      .reduce((a, b) => add(a, b));
    return { loss, parts };
  };
}
