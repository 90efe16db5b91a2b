// Which elements are trained: all, or the small ones of each tensor.
import type { Selector } from '../hooks.js';

/** Bins of the histogram of magnitudes. */
const BINS = 4096;

/**
 * All elements where the parameter's sparsity is 0; else all but that share with the largest magnitudes, within a bin of 1/4096 of the
 * largest. Computed anew each time and not stored (sparse MeZO).
 */
export const bySparsity: Selector = ({ parameter: { size, settings }, magnitudes }, scratch) => {
  if (settings.sparsity === 0) return undefined;
  const values = magnitudes();
  let largest = 0;
  for (let i = 0; i < size; i++) largest = Math.max(largest, values[i]);
  const perUnit = largest > 0 ? (BINS - 1) / largest : 0;
  const counts = new Int32Array(BINS);
  for (let i = 0; i < size; i++) counts[Math.floor(values[i] * perUnit)]++;
  let stay = Math.round(settings.sparsity * size);
  let threshold = BINS;
  while (threshold > 0 && stay >= counts[threshold - 1]) stay -= counts[--threshold];
  const mask = scratch.int8(size);
  for (let i = 0; i < size; i++) mask[i] = values[i] * perUnit < threshold ? 1 : 0;
  return mask;
};
