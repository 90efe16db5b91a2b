// A transformer block as methods see it: named Linears and norms, and one table that says who reads what.
import type { Linear, TensorMap } from './linear.js';
import type { Norm } from './norm.js';
import type { Tensor } from './tensor.js';

/**
 * The Linears of a block that read one and the same input. One table per family; it serves calibration order, shared
 * statistics, norm folding and rotation.
 */
export interface LinearGroup {
  /** 'attention', 'attention-output', 'mlp', 'mlp-output' in Llama-like blocks. */
  readonly name: string;
  /** Names within the block: 'self_attn.q_proj'. */
  readonly linears: readonly string[];
  /** The norm whose output the group reads, by name within the block, or what else it reads. */
  readonly reads: { readonly norm: string } | { readonly activation: 'heads' | 'mlp' };
  /** Whether the group's outputs are added to the residual stream. */
  readonly writesResidual: boolean;
}

/** Which Linears of a block carry values through attention, and how their features divide into heads: what rotates heads reads it. */
export interface AttentionLayout {
  /**
   * Names within the block; they write [..., heads · headDim], head by head. One that all three name writes queries, keys and values in
   * this order.
   */
  readonly query: string;
  readonly key: string;
  readonly value: string;
  /** Reads the heads' outputs, [..., headCount · headDim]. */
  readonly output: string;
  readonly headCount: number;
  /** Consecutive query heads share one key-value head. */
  readonly keyValueHeadCount: number;
  readonly headDim: number;
}

/**
 * Keys and values rounded to a symmetric grid of each token and head, as a cache of few bits holds them (QuaRot, arXiv 2404.00456, §4).
 * Scales are found at run time.
 */
export interface KeyValueQuantization {
  /** 2 to 16. */
  readonly bits: number;
  /** Share of the largest magnitude that the range covers; what lies beyond is clipped. */
  readonly clipRatio: number;
  /** Round keys, after rotary embedding, in a Hadamard basis of each head. */
  readonly rotateKeys: boolean;
}

/** Output of a block together with what its norms and each group of its Linears read, all on one graph. */
export interface BlockTrace {
  readonly output: Tensor;
  /** Input of each group by group name, [..., inFeatures]. */
  readonly inputs: Readonly<Record<string, Tensor>>;
  /** The residual stream as each norm that reads it does, by name of the norm, [batch, tokens, width]. */
  readonly normInputs: Readonly<Record<string, Tensor>>;
}

/** Keys and values of the positions decoded so far, in buffers of a fixed capacity. */
export interface AttentionCache {
  /** [batch, keyValueHeads, capacity, headDim], after rotary embedding, and rounded where the block rounds them. */
  readonly keys: Tensor;
  readonly values: Tensor;
}

/** What a block yields for new positions while generating: one of them when decoding, the whole prompt at first. */
export interface DecodeResult {
  /** [batch, positions, width]. */
  readonly output: Tensor;
  /** Keys and values of the new positions, [batch, keyValueHeads, positions, headDim], for the cache. */
  readonly keys: Tensor;
  readonly values: Tensor;
}

export interface BlockParts {
  readonly linears?: Readonly<Record<string, Linear>>;
  readonly norms?: Readonly<Record<string, Norm>>;
  /** Given as undefined: keys and values are no longer rounded. Left out: as before. */
  readonly keyValues?: KeyValueQuantization | undefined;
}

/** An immutable transformer block. */
export interface Block {
  /** Path in the checkpoint: 'model.layers.3'. */
  readonly path: string;
  readonly linears: Readonly<Record<string, Linear>>;
  readonly norms: Readonly<Record<string, Norm>>;
  /** In the order of computation. */
  readonly groups: readonly LinearGroup[];
  readonly attention: AttentionLayout;
  /** How keys and values are rounded; undefined where they are not. */
  readonly keyValues: KeyValueQuantization | undefined;
  /** [batch, tokens, width] → the same shape; causal, positions from 0. */
  forward(x: Tensor): Tensor;
  /** `forward`, and the input of every group and norm. */
  trace(x: Tensor): BlockTrace;
  /** `forward`, and the keys and values of every position: how generation takes in a prompt. */
  prefill(x: Tensor): DecodeResult;
  /** One new position [batch, 1, width]; `position` is an int32 leaf: how many positions the cache holds, [] or, where rows differ, [batch]. */
  decode(x: Tensor, cache: AttentionCache, position: Tensor): DecodeResult;
  /** The block with some parts replaced, Linears and norms by name. @throws BLOCK_PART for an unknown name or a rounding it cannot compute. */
  with(parts: BlockParts): Block;
  /** The block with every tensor replaced by `map(tensor, name)`. */
  map(map: TensorMap): Block;
}
