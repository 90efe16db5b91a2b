// Losses that lead a model towards the answers of a teacher, with some of the next token's cross-entropy beside them.
import {
  abs,
  add,
  type Backend,
  crossEntropy,
  detach,
  exp,
  klDivergence,
  LowbitError,
  log,
  logSoftmax,
  type Model,
  max,
  maximum,
  mean,
  mul,
  neg,
  read,
  readFloats,
  softmax,
  square,
  sub,
  sum,
  type Tensor,
  tensor,
} from '@lowbit/core';
import { type Indexed, meanLoss } from './loss.js';
import { lastHidden, modelLoss, type PositionsLoss } from './model-gradients.js';
import { positionWeights } from './window-loss.js';
import type { WindowBatch } from './windows.js';

/**
 * How far a model is from its teacher, averaged over tokens. With T the teacher's and S the model's probabilities, in nats:
 * - 'kl': KL(T‖S)
 * - 'reverse-kl': KL(S‖T)
 * - 'cakld': β · KL(S‖T) + (1 − β) · KL(T‖S), with the teacher's confidence as β (BitDistiller, arXiv 2402.10631)
 * - 'jsd': ½ KL(T‖M) + ½ KL(S‖M), M = ½ T + ½ S
 * - 'hidden': mean square error of the hidden state after the last norm
 */
export const distances = ['kl', 'reverse-kl', 'cakld', 'jsd', 'hidden'] as const;

export type Distance = (typeof distances)[number];

export interface DistillationRequest {
  readonly backend: Backend;
  /** In memory. For 'hidden' its residual stream must be in the basis of the model's. */
  readonly teacher: Model;
  readonly distance: Distance;
  /** Weight of the next token's cross-entropy beside the distance. Default: 0. */
  readonly lambdaCe?: number | undefined;
  /** β of 'cakld', see `teacherConfidence`. Default: 0.5. */
  readonly beta?: number | undefined;
}

/** Bytes of hidden states of a teacher that are kept. */
const REMEMBERED = 2 ** 28;

/**
 * What a teacher's last block gives for windows, [tokens, width]. Windows that come again, pass after pass, are not computed again; of more than
 * fit, those that came first are kept: in a loop over all of them the last ones would be gone before they come again.
 */
function rememberedHidden(backend: Backend, teacher: Model): (part: WindowBatch) => Promise<Float32Array> {
  const known = new Map<string, Float32Array>();
  let bytes = 0;
  return async ({ tokens }) => {
    const key = `${tokens.shape}: ${await read(tokens)}`;
    const found = known.get(key) ?? (await readFloats(await lastHidden(backend, teacher, tokens)));
    if (!known.has(key) && bytes + found.byteLength <= REMEMBERED) {
      known.set(key, found);
      bytes += found.byteLength;
    }
    return found;
  };
}

/**
 * The loss of a part of a batch, for `windowLoss`. The teacher's blocks are run once for each part, where hidden states of all parts fit into
 * 256 MiB; its logits exist for as many positions at one time as those of the model.
 * @throws DISTILLATION_WIDTH from the loss, when hidden states of two widths are to be compared.
 */
export function distillationLoss(request: DistillationRequest): (part: WindowBatch) => Promise<PositionsLoss> {
  const { backend, teacher, distance, lambdaCe = 0, beta = 0.5 } = request;
  const hiddenOf = rememberedHidden(backend, teacher);
  return async (part) => {
    const taught = await hiddenOf(part);
    const width = taught.length / part.tokens.size;
    const { everyToken, nextToken, next } = await positionWeights(part);
    return (model, hidden, start, end) => {
      const target = tensor(taught.subarray(start * width, end * width), [end - start, width]);
      const logits = model.logits(hidden);
      const distances =
        distance === 'hidden' ? hiddenDistance(teacher, target, model, hidden) : divergence(distance, teacher.logits(target), logits, beta);
      const loss = sum(mul(distances, tensor(everyToken.subarray(start, end))));
      if (lambdaCe === 0) return { loss };
      const errors = crossEntropy(logits, tensor(next.subarray(start, end)));
      return { loss: add(loss, mul(sum(mul(errors, tensor(nextToken.subarray(start, end)))), lambdaCe)) };
    };
  };
}

/** [positions, vocabulary] twice → [positions] */
function divergence(distance: Exclude<Distance, 'hidden'>, teacher: Tensor, own: Tensor, beta: number): Tensor {
  switch (distance) {
    case 'kl':
      return klDivergence(teacher, own);
    case 'reverse-kl':
      return klDivergence(own, teacher);
    case 'cakld':
      // At the ends one of the two has no weight, and is not computed.
      if (beta === 0) return klDivergence(teacher, own);
      if (beta === 1) return klDivergence(own, teacher);
      return add(mul(klDivergence(own, teacher), beta), mul(klDivergence(teacher, own), 1 - beta));
    case 'jsd': {
      // Logits of M, up to a constant. ½ (M − T) + ½ (M − S) = 0 is what they would get as a gradient, so none flows into them.
      const mixture = detach(logSum(logSoftmax(teacher), logSoftmax(own)));
      return mul(add(klDivergence(teacher, mixture), klDivergence(own, mixture)), 0.5);
    }
  }
}

/** log(eᵃ + eᵇ), without overflow. */
function logSum(a: Tensor, b: Tensor): Tensor {
  return add(maximum(a, b), log(add(exp(neg(abs(sub(a, b)))), 1)));
}

/** [positions] */
function hiddenDistance(teacher: Model, target: Tensor, model: Model, hidden: Tensor): Tensor {
  const [theirs, own] = [target.shape[1], hidden.shape[1]];
  if (theirs !== own) {
    throw new LowbitError(
      'DISTILLATION_WIDTH',
      `distillationLoss: the teacher's hidden state has ${theirs} features, the model's ${own}; a step has changed its width, compare answers by 'kl' instead`,
    );
  }
  return mean(square(sub(model.norm.forward(hidden), teacher.norm.forward(target))), [-1]);
}

/** Batches that a teacher's confidence is taken from. */
const CONFIDENCE_BATCHES = 10;

/** Mean of a model's largest probabilities over the tokens of the first batches, ten at most: β of 'cakld' (arXiv 2402.10631). */
export function teacherConfidence(backend: Backend, teacher: Model, batches: Indexed<WindowBatch>, signal?: AbortSignal): Promise<number> {
  const first = { length: Math.min(CONFIDENCE_BATCHES, batches.length), at: (index: number) => batches.at(index) };
  return meanLoss(backend, new Map(), { value: (_, part) => confidence(backend, teacher, part) }, first, signal);
}

async function confidence(backend: Backend, model: Model, part: WindowBatch): Promise<number> {
  const { everyToken } = await positionWeights(part);
  const lossOf: PositionsLoss = (whole, hidden, start, end) => ({
    loss: sum(mul(max(softmax(whole.logits(hidden)), [-1]), tensor(everyToken.subarray(start, end)))),
  });
  return (await modelLoss({ backend, model, tokens: part.tokens, lossOf })).loss;
}
