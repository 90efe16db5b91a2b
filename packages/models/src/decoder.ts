// Runs a model over a growing batch of sequences: the prompt in one pass, then one position at a time over key-value caches.
import {
  argmax,
  type Backend,
  type DecodeResult,
  gather,
  type Model,
  mul,
  reshape,
  slice,
  softmax,
  type Tensor,
  tensor,
} from '@lowbit/core';
import { CacheBuffers } from './cached-attention.js';

/** Smallest cache that is compiled for, in positions. */
const LEAST_CAPACITY = 32;

/** One evaluation: something to pick the next token from, and what the caches need. */
interface Step {
  readonly choice: Tensor;
  readonly blocks: readonly DecodeResult[];
}

/**
 * Decoding state of a batch. A step is one evaluation over all blocks and the head; its program is compiled once a cache capacity,
 * and capacities double.
 */
export class Decoder {
  readonly #model: Model;
  readonly #backend: Backend;
  readonly #inverseTemperature: Tensor | undefined;
  #caches: readonly CacheBuffers[] | undefined;
  /** How many positions are in the caches: of every row, or of each where prompts were of different lengths. */
  #filled: number | Int32Array = 0;
  /** Results of the last step: copied or handed out, and free once the next one begins. */
  #stale: readonly Tensor[] = [];

  /** Weights should be in memory and dense: they are touched at every step. A temperature of 0 is greedy. */
  constructor(model: Model, backend: Backend, temperature: number) {
    this.#model = model;
    this.#backend = backend;
    this.#inverseTemperature = temperature > 0 ? tensor(1 / temperature) : undefined;
  }

  /**
   * Takes in the next tokens, int32 [batch, positions]: any number at first, one position from then on. Returns what follows them:
   * the most probable token, int32 [batch], or probabilities [batch, vocabulary]. It holds until the next call.
   * `lengths` [batch] are those of prompts that were filled up to one length; what filled them up is not looked at by any other position.
   */
  async advance(tokens: Tensor, lengths?: Int32Array): Promise<Tensor> {
    const step = this.#caches ? this.#decode(tokens, this.#caches) : this.#prefill(tokens, lengths);
    const stored = step.blocks.flatMap(({ keys, values }) => [keys, values]);
    const [choice, ...results] = await this.#backend.evaluate([step.choice, ...stored], { release: this.#stale });
    this.#caches ??= step.blocks.map(({ keys }) => emptyCache(keys));
    for (const [i, cache] of this.#caches.entries()) await cache.write(this.#filled, results[2 * i], results[2 * i + 1]);
    // What filled prompts up lies behind what counts, and is written over.
    this.#filled = lengths ?? further(this.#filled, tokens.shape[1]);
    this.#stale = [choice, ...results];
    return choice;
  }

  #prefill(tokens: Tensor, lengths: Int32Array | undefined): Step {
    return this.#step(this.#model.embedding.forward(tokens), (index, x) => this.#model.blocks[index].prefill(x), lengths);
  }

  #decode(tokens: Tensor, caches: readonly CacheBuffers[]): Step {
    const position = typeof this.#filled === 'number' ? tensor(Int32Array.of(this.#filled), []) : tensor(this.#filled);
    const embedded = this.#model.embedding.forward(tokens, position);
    return this.#step(embedded, (index, x) => this.#model.blocks[index].decode(x, caches[index].leaves(), position));
  }

  #step(embedded: Tensor, run: (index: number, x: Tensor) => DecodeResult, lengths?: Int32Array): Step {
    let x = embedded;
    const blocks = this.#model.blocks.map((_, index) => {
      const result = run(index, x);
      x = result.output;
      return result;
    });
    const [batch, positions, width] = x.shape;
    const last = lengths
      ? gather(reshape(x, [batch * positions, width]), tensor(lengths.map((length, row) => row * positions + length - 1)))
      : reshape(slice(x, 1, positions - 1, positions), [batch, width]);
    const logits = this.#model.logits(last);
    const scale = this.#inverseTemperature;
    return { choice: scale ? softmax(mul(logits, scale)) : argmax(logits), blocks };
  }
}

function further(filled: number | Int32Array, positions: number): number | Int32Array {
  return typeof filled === 'number' ? filled + positions : filled.map((count) => count + positions);
}

/** Buffers for keys like these [batch, keyValueHeads, positions, headDim], with room for the next position. */
function emptyCache({ shape: [batch, keyValueHeads, positions, headDim] }: Tensor): CacheBuffers {
  let capacity = LEAST_CAPACITY;
  while (capacity <= positions) capacity *= 2;
  return new CacheBuffers(batch, keyValueHeads, capacity, headDim);
}
