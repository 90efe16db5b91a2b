// What tells the blocks of one family from another's: names, norms of heads, and what the MLP computes between its Linears.
import type { LinearGroup, Tensor } from '@lowbit/core';
import type { AttentionPositions } from './attention-positions.js';

/** Linears that read the normalized residual stream, and one that writes to it what was made of them. */
export interface DesignedHalf {
  /** The norm before them, by name within the block. */
  readonly norm: string;
  readonly inputs: readonly string[];
  readonly output: string;
}

/** A block is x + output(attention(inputs(norm(x)))), and the same with the MLP. */
export interface BlockDesign {
  /** What `inputs` write is, joined, queries, keys and values: three Linears, or one. */
  readonly attention: DesignedHalf & {
    /** Norms over the features of each head of queries and of keys, before positions. */
    readonly headNorms?: { readonly query: string; readonly key: string } | undefined;
  };
  readonly mlp: DesignedHalf & {
    /** From what `inputs` write to what `output` reads. */
    readonly activate: (projected: readonly Tensor[]) => Tensor;
  };
}

export interface HeadGeometry {
  readonly headCount: number;
  /** Consecutive query heads share one key-value head. */
  readonly keyValueHeadCount: number;
  readonly headDim: number;
}

/** What a block is besides its design and weights. Head counts are its own: the width of the residual stream may change, theirs do not. */
export interface BlockSettings extends HeadGeometry {
  /** Shared by all blocks of a model. */
  readonly positions: AttentionPositions;
  readonly limit?: PositionLimit | undefined;
}

/** The longest sequence that a block computes as the original model does, and why no longer one. */
export interface PositionLimit {
  readonly positions: number;
  readonly reason: string;
}

/** Who reads what, and who writes to the residual stream, in order of computation. */
export function designedGroups({ attention, mlp }: BlockDesign): readonly LinearGroup[] {
  return [
    { name: 'attention', linears: attention.inputs, reads: { norm: attention.norm }, writesResidual: false },
    { name: 'attention-output', linears: [attention.output], reads: { activation: 'heads' }, writesResidual: true },
    { name: 'mlp', linears: mlp.inputs, reads: { norm: mlp.norm }, writesResidual: false },
    { name: 'mlp-output', linears: [mlp.output], reads: { activation: 'mlp' }, writesResidual: true },
  ];
}
