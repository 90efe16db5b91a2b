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

/** Mean of the losses of all batches. */
export async function meanLoss<Batch>(
  backend: Backend,
  parameters: NamedTensors,
  lossOf: LossFunction<Batch>,
  batches: Indexed<Batch>,
  signal?: AbortSignal,
): Promise<number> {
  let total = 0;
  for (let i = 0; i < batches.length; i++) {
    throwIfAborted(signal);
    const [loss] = await backend.evaluate([lossOf(parameters, await batches.at(i))]);
    total += await readNumber(loss);
  }
  return total / batches.length;
}
