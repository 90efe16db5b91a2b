// Ranks of adapters from what they may cost together: overhead is matched in percent, not in rank.

/** Linears of one name and shape; all of them get one rank, so that blocks stay alike. */
export interface AdaptedLayers {
  /** 'mlp.down_proj' */
  readonly name: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** How many there are. */
  readonly count: number;
}

/**
 * The largest ranks whose adapters hold at most `parameters` elements: the same for all layers, one more for the largest of them while
 * that fits, and no more for a layer than it can have. 0 where not one rank fits.
 */
export function ranksWithin(parameters: number, layers: readonly AdaptedLayers[]): Map<string, number> {
  const uniform = Math.floor(parameters / layers.reduce((total, layer) => total + cost(layer), 0));
  const full = layers.filter((layer) => fullRank(layer) <= uniform);
  if (full.length > 0) {
    const ranks = new Map(full.map((layer) => [layer.name, fullRank(layer)]));
    const left = parameters - full.reduce((total, layer) => total + cost(layer) * fullRank(layer), 0);
    const others = layers.filter((layer) => !full.includes(layer));
    return others.length === 0 ? ranks : new Map([...ranks, ...ranksWithin(left, others)]);
  }
  const ranks = new Map(layers.map(({ name }) => [name, uniform]));
  let left = parameters - layers.reduce((total, layer) => total + cost(layer) * uniform, 0);
  const bySize = [...layers].sort((a, b) => b.inFeatures * b.outFeatures - a.inFeatures * a.outFeatures);
  for (const layer of bySize) {
    if (cost(layer) > left) continue;
    ranks.set(layer.name, uniform + 1);
    left -= cost(layer);
  }
  return ranks;
}

/** Elements of one rank. */
function cost({ inFeatures, outFeatures, count }: AdaptedLayers): number {
  return count * (inFeatures + outFeatures);
}

function fullRank({ inFeatures, outFeatures }: AdaptedLayers): number {
  return Math.min(inFeatures, outFeatures);
}
