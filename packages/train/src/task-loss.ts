// The loss of a task, and how well a model does it: shared by all methods that tune for one.
import {
  argmax,
  type Backend,
  cast,
  crossEntropy,
  equal,
  gather,
  type Model,
  mul,
  sum,
  type Tensor,
  tensor,
  throwIfAborted,
} from '@lowbit/core';
import type { Indexed } from './loss.js';
import { modelLoss, type PositionsLoss, type PositionsTerms } from './model-gradients.js';
import type { TaskBatch } from './task-batches.js';

/** Mean cross-entropy of what a batch predicts, in nats, at `batch.positions`: over the logits of its candidates, or of the vocabulary. */
export function taskLoss(batch: TaskBatch): PositionsLoss {
  return (model, hidden, start, end) => lossOf(logitsOf(batch, model, hidden), batch, start, end);
}

/** The loss and beside it, as part 'accuracy', the share of what is predicted that has the largest logit. */
export function taskJudgement(batch: TaskBatch): PositionsLoss {
  return (model, hidden, start, end) => {
    const logits = logitsOf(batch, model, hidden);
    const isHit = cast(equal(argmax(logits), tensor(batch.targets.subarray(start, end))), 'float32');
    const accuracy = sum(mul(isHit, tensor(batch.weights.subarray(start, end))));
    return { ...lossOf(logits, batch, start, end), parts: { accuracy } };
  };
}

/** [positions, candidates], or [positions, vocabulary] */
function logitsOf({ candidates }: TaskBatch, model: Model, hidden: Tensor): Tensor {
  const logits = model.logits(hidden);
  return candidates ? gather(logits, candidates, 1) : logits;
}

function lossOf(logits: Tensor, { targets, weights }: TaskBatch, start: number, end: number): PositionsTerms {
  const errors = crossEntropy(logits, tensor(targets.subarray(start, end)));
  return { loss: sum(mul(errors, tensor(weights.subarray(start, end)))) };
}

/** How well a model does a task. */
export interface TaskResult {
  /** Nats for each prediction. */
  readonly loss: number;
  /** Share of the predictions that are right. */
  readonly accuracy: number;
}

/** Judges a model, in memory, on batches of a task. */
export async function judgeTask(backend: Backend, model: Model, batches: Indexed<TaskBatch>, signal?: AbortSignal): Promise<TaskResult> {
  let [loss, accuracy] = [0, 0];
  for (let i = 0; i < batches.length; i++) {
    throwIfAborted(signal);
    const batch = await batches.at(i);
    const { tokens, positions } = batch;
    const found = await modelLoss({ backend, model, tokens, positions, lossOf: taskJudgement(batch) });
    loss += found.loss / batches.length;
    accuracy += found.parts['accuracy'] / batches.length;
  }
  return { loss, accuracy };
}
