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

/** Output of a block together with what each group of its Linears read, all on one graph. */
export interface BlockTrace {
  readonly output: Tensor;
  /** Input of each group by group name, [..., inFeatures]. */
  readonly inputs: Readonly<Record<string, Tensor>>;
}

/** Keys and values of the positions decoded so far, in buffers of a fixed capacity. */
export interface AttentionCache {
  /** [batch, keyValueHeads, capacity, headDim], after rotary embedding. */
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
}

/** An immutable transformer block. */
export interface Block {
  /** Path in the checkpoint: 'model.layers.3'. */
  readonly path: string;
  readonly linears: Readonly<Record<string, Linear>>;
  readonly norms: Readonly<Record<string, Norm>>;
  /** In the order of computation. */
  readonly groups: readonly LinearGroup[];
  /** [batch, tokens, width] → the same shape; causal, positions from 0. */
  forward(x: Tensor): Tensor;
  /** `forward`, and the input of every group. */
  trace(x: Tensor): BlockTrace;
  /** `forward`, and the keys and values of every position: how generation takes in a prompt. */
  prefill(x: Tensor): DecodeResult;
  /** One new position [batch, 1, width]; `position` is an int32 scalar leaf: how many positions the cache holds. */
  decode(x: Tensor, cache: AttentionCache, position: Tensor): DecodeResult;
  /** The block with some Linears or norms replaced, by name. @throws BLOCK_PART for an unknown name. */
  with(parts: BlockParts): Block;
  /** The block with every tensor replaced by `map(tensor, name)`. */
  map(map: TensorMap): Block;
}
