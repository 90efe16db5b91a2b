// What the Linears behind a block's norms read, channel by channel: as it is, rotated, and decomposed and rotated.
import { type Backend, type Block, flattenRows, type LinearGroup, readFloats, type Tensor, transpose } from '@lowbit/core';
import { type ChannelBands, channelBands } from './channel-bands.js';
import type { StreamIsometries } from './stream-isometries.js';

/** In whose coordinates an input is looked at, in this order. */
export const inputBases = ['raw', 'rotated', 'decomposed'] as const;

/** 'raw' is what the layer reads, the norm's weight included; in the other bases that weight has gone into the layer. */
export type InputBasis = (typeof inputBases)[number];

/** One input in one basis. */
export interface InputBands {
  /** Path of the block. */
  readonly block: string;
  /** Who reads it: 'q_proj, k_proj, v_proj'. */
  readonly input: string;
  readonly basis: InputBasis;
  /** Leading channels that would stay in full precision: the rank in the basis 'decomposed', none in the others. */
  readonly outliers: number;
  readonly channels: number;
  readonly bands: ChannelBands;
}

/**
 * Bands of what the block's norms give, one input after the other; one is in memory at a time, in all bases.
 * @param stream what the block reads, [batch, tokens, width] each.
 */
export async function inputBands(
  backend: Backend,
  block: Block,
  stream: readonly Tensor[],
  isometries: StreamIsometries,
): Promise<InputBands[]> {
  const found: InputBands[] = [];
  for (const group of block.groups) {
    if (!('norm' in group.reads)) continue;
    const parts = inputBases.map((): Float32Array[] => []);
    for (const x of stream) {
      const views = inBases(block, group, group.reads.norm, x, isometries);
      // [channels, tokens]: a channel's values lie together.
      const leaves = await backend.evaluate(views.map((view) => transpose(view, [1, 0])));
      for (const [i, leaf] of leaves.entries()) parts[i].push(await readFloats(leaf));
    }
    const width = stream[0].shape[2];
    for (const [i, basis] of inputBases.entries()) {
      const outliers = basis === 'decomposed' ? isometries.decomposed.rank : 0;
      const channels = basis === 'raw' ? width : isometries[basis].residualWidth;
      const bands = channelBands(parts[i], channels);
      found.push({ block: block.path, input: readers(group), basis, outliers, channels, bands });
    }
  }
  return found;
}

/** The group's input in each of `inputBases`, [tokens, channels]. */
function inBases(block: Block, group: LinearGroup, norm: string, x: Tensor, { rotated, decomposed }: StreamIsometries): Tensor[] {
  const { inputs, normInputs } = block.trace(x);
  const normalized = flattenRows(block.norms[norm].with({ weight: undefined }).forward(normInputs[norm]));
  return [flattenRows(inputs[group.name]), rotated.rows(normalized), decomposed.rows(normalized)];
}

function readers({ linears }: LinearGroup): string {
  return linears.map((name) => name.slice(name.lastIndexOf('.') + 1)).join(', ');
}
