// Losses as functions of parameters and a batch, and their mean over batches.
import { type Backend, readNumber, type Tensor, throwIfAborted } from '@lowbit/core';
import type { NamedTensors } from './optimizer.js';

/** A sequence of batches of any form; `Batches` and `TokenBatches` of core are such sequences. */
export interface Indexed<Batch> {
  readonly length: number;
  at(index: number): Promise<Batch> | Batch;
}

/** The loss of a batch, a scalar: a graph over the parameters and the batch's leaves. Batches of equal shapes share one program. */
export type LossFunction<Batch> = (parameters: NamedTensors, batch: Batch) => Tensor;

/** A loss with its gradients, computed. */
export interface LossGradients {
  readonly loss: number;
  /** Leaves by parameter name that nobody else reads: their memory is reused. */
  readonly gradients: NamedTensors;
}

/** A figure that takes several evaluations, for graphs that are too large for one: a model's, one block at a time. */
export interface StagedValue<Batch> {
  value(parameters: NamedTensors, batch: Batch): Promise<number>;
}

/** Such a loss with its gradients. */
export interface StagedLoss<Batch> extends StagedValue<Batch> {
  /** @param step the step that asks, counted from 1: an address for what is drawn anew at every step. */
  gradients(parameters: NamedTensors, batch: Batch, step: number): Promise<LossGradients>;
}

/** Mean of the losses of all batches. */
export async function meanLoss<Batch>(
  backend: Backend,
  parameters: NamedTensors,
  lossOf: LossFunction<Batch> | StagedValue<Batch>,
  batches: Indexed<Batch>,
  signal?: AbortSignal,
): Promise<number> {
  let total = 0;
  for (let i = 0; i < batches.length; i++) {
    throwIfAborted(signal);
    const batch = await batches.at(i);
    if (typeof lossOf === 'function') {
      const [loss] = await backend.evaluate([lossOf(parameters, batch)]);
      total += await readNumber(loss);
    } else {
      total += await lossOf.value(parameters, batch);
    }
  }
  return total / batches.length;
}
