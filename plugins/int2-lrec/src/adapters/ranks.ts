// Ranks of adapters from what they may cost together: overhead is matched in percent, not in rank.
import { type Linear, type LinearShape, LowbitError, type Model } from '@lowbit/core';
import type { ScaleDtype } from '@lowbit/quant';
import { checkpointBits } from './checkpoint-bits.js';
import { innerLinear } from './wrapped.js';

/** How a Linear's rank is chosen. */
export interface RankOptions {
  /** Counts before `overhead`. */
  readonly rank?: number | undefined;
  /** Bits of all adapters with this overhead, as a share of the whole checkpoint without any adapter. */
  readonly overhead?: number | undefined;
  readonly adapterDtype: ScaleDtype;
}

/** Linears of one name and shape; all of them get one rank, so that blocks stay alike. */
export interface AdaptedLayers {
  /** 'mlp.down_proj' */
  readonly name: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** Bits of one rank, of all of them together. */
  readonly bits: number;
}

/** @throws ADAPTER_RANK when the layer cannot have the rank. */
export function checkRank({ path, inFeatures, outFeatures }: LinearShape, { rank = 0 }: RankOptions): void {
  const most = Math.min(inFeatures, outFeatures);
  if (rank > most)
    throw new LowbitError('ADAPTER_RANK', `${path}: rank ${rank} is more than the ${most} that the layer can have; lower rank`);
}

/** A Linear that gets an adapter. */
interface Adapted {
  readonly path: string;
  /** Within its block. */
  readonly name: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly options: RankOptions;
}

/**
 * Ranks by path of the Linears that get an adapter; 0 where the overhead leaves nothing for one. Linears of one overhead share it.
 * @param optionsFor of a Linear by path; undefined where it gets none.
 * @throws ADAPTER_OVERHEAD when an overhead does not pay for a single rank.
 */
export function adapterRanks(model: Model, optionsFor: (path: string, linear: Linear) => RankOptions | undefined): Map<string, number> {
  const adapted = model.blocks.flatMap((block) =>
    Object.entries(block.linears).flatMap(([name, linear]): Adapted[] => {
      const path = `${block.path}.${name}`;
      const options = optionsFor(path, linear);
      const { inFeatures, outFeatures } = innerLinear(linear);
      return options ? [{ path, name, inFeatures, outFeatures, options }] : [];
    }),
  );
  const ranks = new Map(adapted.map(({ path, options }) => [path, options.rank ?? 0]));
  const sharing = adapted.filter(({ options }) => options.rank === undefined);
  const overheads = new Set(sharing.map(({ options }) => options.overhead ?? 0));
  for (const overhead of overheads) {
    const sharers = sharing.filter(({ options }) => options.overhead === overhead);
    const found = sharedRanks(model, overhead, sharers);
    for (const { path, name } of sharers) ranks.set(path, found.get(name) ?? 0);
  }
  return ranks;
}

/** Ranks by name within a block. */
function sharedRanks(model: Model, overhead: number, sharers: readonly Adapted[]): Map<string, number> {
  const layers = new Map<string, AdaptedLayers>();
  for (const { name, inFeatures, outFeatures, options } of sharers) {
    const bits = (layers.get(name)?.bits ?? 0) + (inFeatures + outFeatures) * (options.adapterDtype === 'float16' ? 16 : 32);
    layers.set(name, { name, inFeatures, outFeatures, bits });
  }
  const total = checkpointBits(model);
  const ranks = ranksWithin(overhead * total, [...layers.values()]);
  if ([...ranks.values()].every((rank) => rank === 0)) {
    throw new LowbitError(
      'ADAPTER_OVERHEAD',
      `${100 * overhead}% of a checkpoint of ${Math.ceil(total / 8)} bytes do not pay for one adapter of rank 1; raise overhead, or set rank`,
    );
  }
  return ranks;
}

/**
 * The largest ranks whose adapters take at most `bits`: the same for all layers, one more for the largest of them while that fits, and
 * no more for a layer than it can have. 0 where not one rank fits.
 */
export function ranksWithin(bits: number, layers: readonly AdaptedLayers[]): Map<string, number> {
  const uniform = Math.floor(bits / layers.reduce((total, layer) => total + layer.bits, 0));
  const full = layers.filter((layer) => fullRank(layer) <= uniform);
  if (full.length > 0) {
    const ranks = new Map(full.map((layer) => [layer.name, fullRank(layer)]));
    const left = bits - full.reduce((total, layer) => total + layer.bits * fullRank(layer), 0);
    const others = layers.filter((layer) => !full.includes(layer));
    return others.length === 0 ? ranks : new Map([...ranks, ...ranksWithin(left, others)]);
  }
  const ranks = new Map(layers.map(({ name }) => [name, uniform]));
  let left = bits - layers.reduce((total, layer) => total + layer.bits * uniform, 0);
  const bySize = [...layers].sort((a, b) => b.inFeatures * b.outFeatures - a.inFeatures * a.outFeatures);
  for (const layer of bySize) {
    if (layer.bits > left) continue;
    ranks.set(layer.name, uniform + 1);
    left -= layer.bits;
  }
  return ranks;
}

function fullRank({ inFeatures, outFeatures }: AdaptedLayers): number {
  return Math.min(inFeatures, outFeatures);
}
