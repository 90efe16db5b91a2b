// Sparse MeZO: only weights of small magnitude are trained.
import type { Selector } from '../hooks.js';

/**
 * m = 1 where |θ| ≤ h (Sparse MeZO, arXiv 2402.15751). h is found once for every tensor, from the weights it starts with: the magnitude that
 * a share of `sparsity` of its elements lies above. The mask is computed anew each time from the current weights, and not stored; elements
 * that grow beyond h stay as they are from then on. A tensor whose h is 0, a new adapter's for one, is trained as a whole.
 *
 * The thresholds belong to one run: make a selector for each.
 */
export function belowThreshold(): Selector {
  const thresholds = new Map<string, number>();
  return ({ parameter: { name, size, settings }, magnitudes }, scratch) => {
    const values = magnitudes();
    let threshold = thresholds.get(name);
    if (threshold === undefined) {
      const trained = Math.max(1, size - Math.round(settings.sparsity * size));
      const sorted = scratch.float32(size);
      sorted.set(values);
      threshold = sorted.sort()[trained - 1];
      thresholds.set(name, threshold);
    }
    if (threshold === 0) return undefined;
    const mask = scratch.int8(size);
    for (let i = 0; i < size; i++) mask[i] = values[i] <= threshold ? 1 : 0;
    return mask;
  };
}
