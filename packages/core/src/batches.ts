// Data as the runner and the methods see it.
import type { Tensor } from './tensor.js';

/** A sequence of tensors that may lie in memory or on disk. */
export interface Batches {
  readonly length: number;
  /** Batch `index`. Batches of one sequence have equal shapes. */
  at(index: number): Promise<Tensor>;
}

/** Tokenized text: int32 [batch, tokens] windows, with what is needed to say which text it was. */
export interface TokenBatches extends Batches {
  /** sha256 over the token ids of all windows. */
  readonly hash: string;
  /** Where the tokens came from: 'sotu train, 64 windows of 256, seed 0'. */
  readonly description: string;
}

/** Batches held in memory. */
export function batchesOf(tensors: readonly Tensor[]): Batches {
  return { length: tensors.length, at: (index) => Promise.resolve(tensors[index]) };
}
