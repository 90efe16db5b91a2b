// Attention of one new position over a key-value cache, and the cache's buffers.
import {
  type AttentionCache,
  add,
  concat,
  less,
  matmul,
  mul,
  readFloats,
  reshape,
  slice,
  softmax,
  sum,
  type Tensor,
  tensor,
  where,
} from '@lowbit/core';

/** Score of a cache slot that holds no position yet: its weight after the softmax is exactly 0. */
const EMPTY_SLOT = -1e30;

export interface NewPosition {
  /** [batch, heads, 1, headDim], rotated. */
  readonly query: Tensor;
  /** [batch, keyValueHeads, 1, headDim], rotated; consecutive query heads share one key head. */
  readonly keys: Tensor;
  readonly values: Tensor;
}

/**
 * softmax(q [K, k]ᵀ / √D) [V, v] over the first `position` slots of the cache and the new position itself → [batch, heads, 1, headDim].
 * `indices` is 0 … capacity − 1; `position` is an int32 leaf, [] or [batch], so that every step of a capacity is the same program.
 */
export function cachedAttention({ query, keys, values }: NewPosition, cache: AttentionCache, indices: Tensor, position: Tensor): Tensor {
  const [batch, heads, , headDim] = query.shape;
  const [, keyValueHeads, capacity] = cache.keys.shape;
  const folded = reshape(mul(query, 1 / Math.sqrt(headDim)), [batch, keyValueHeads, heads / keyValueHeads, headDim]);
  const filled = position.rank === 0 ? position : reshape(position, [batch, 1, 1, 1]);
  const past = where(less(indices, filled), matmul(folded, cache.keys, { transposeB: true }), EMPTY_SLOT);
  const own = sum(mul(folded, keys), [-1], true);
  const weights = softmax(concat([past, own], -1));
  const fromCache = matmul(slice(weights, -1, 0, capacity), cache.values);
  const fromOwn = mul(slice(weights, -1, capacity, capacity + 1), values);
  return reshape(add(fromCache, fromOwn), query.shape);
}

/** Keys and values of one block in host buffers that grow by doubling. Buffers are written between evaluations. */
export class CacheBuffers {
  #keys: Float32Array;
  #values: Float32Array;
  #shape: readonly [batch: number, keyValueHeads: number, capacity: number, headDim: number];

  constructor(batch: number, keyValueHeads: number, capacity: number, headDim: number) {
    this.#shape = [batch, keyValueHeads, capacity, headDim];
    this.#keys = new Float32Array(batch * keyValueHeads * capacity * headDim);
    this.#values = new Float32Array(this.#keys.length);
  }

  get capacity(): number {
    return this.#shape[2];
  }

  /** Leaves over the buffers as they are now; they must not be used after the next `write`. */
  leaves(): AttentionCache {
    return { keys: tensor(this.#keys, this.#shape), values: tensor(this.#values, this.#shape) };
  }

  /**
   * Stores evaluated keys and values [batch, keyValueHeads, positions, headDim] from slot `start` on, of each row where there is a list,
   * with room made as needed.
   */
  async write(start: number | Int32Array, keys: Tensor, values: Tensor): Promise<void> {
    const [batch, , positions] = keys.shape;
    const starts = typeof start === 'number' ? new Int32Array(batch).fill(start) : start;
    let capacity = this.capacity;
    while (capacity < Math.max(...starts) + positions) capacity *= 2;
    if (capacity > this.capacity) this.#grow(capacity);
    this.#copy(await readFloats(keys), positions, this.#keys, capacity, starts);
    this.#copy(await readFloats(values), positions, this.#values, capacity, starts);
  }

  #grow(capacity: number): void {
    const [batch, heads, before, headDim] = this.#shape;
    const [keys, values] = [this.#keys, this.#values].map((old) => {
      const grown = new Float32Array(batch * heads * capacity * headDim);
      this.#copy(old, before, grown, capacity, new Int32Array(batch));
      return grown;
    });
    this.#keys = keys;
    this.#values = values;
    this.#shape = [batch, heads, capacity, headDim];
  }

  /** Rows of each head: [batch · heads, fromPositions, headDim] into slots of [batch · heads, toPositions, headDim], from `starts` [batch] on. */
  #copy(from: Float32Array, fromPositions: number, to: Float32Array, toPositions: number, starts: Int32Array): void {
    const [, heads, , headDim] = this.#shape;
    const length = fromPositions * headDim;
    for (let i = 0; i * length < from.length; i++) {
      to.set(from.subarray(i * length, (i + 1) * length), (i * toPositions + starts[Math.floor(i / heads)]) * headDim);
    }
  }
}
