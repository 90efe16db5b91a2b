// What rotations take, from shapes.
import type { Cost, Workload } from '@lowbit/core';
import type { QuadOptions } from './options.js';

/** Values for each weight in each of the log2 n stages of a Hadamard transform, and of folding norms and splitting. */
const FOLD_VALUES = 12;

/** Iterations of the search for the directions of most energy, each a product with a matrix of a few more columns than the rank. */
const ITERATIONS = 60;

type CostOptions = Pick<QuadOptions, 'rank' | 'gram' | 'basis' | 'basisWindows' | 'rotation'>;

/** Every weight is rotated once, by a fast transform or a random matrix; where directions are set apart, the energy of the stream is summed first. */
export function rotationCost({
  options,
  weights,
  width,
  windows,
  tokens,
  vocabularySize,
  forward,
}: Omit<Workload<CostOptions>, 'linears'>): Cost {
  const { rank, basis, basisWindows, rotation } = options;
  const all = weights + 2 * vocabularySize * width;
  const rotating = rotation === 'random' ? 2 * all * width : 0;
  const readsEnergy = rank > 0 && (basis === 'svd' || basis === 'bottom' || basis === 'channels');
  const summed = readsEnergy ? Math.min(windows, basisWindows) : 0;
  const search = readsEnergy ? ITERATIONS * 2 * width ** 2 * (rank + 16) : 0;
  return {
    flops: rotating + 4 * all * rank + summed * (forward.flops + 4 * tokens * width ** 2) + search,
    elements: all * (FOLD_VALUES + Math.log2(width)) + summed * forward.elements,
    bytes: forward.bytes * Math.min(8, Math.max(1, summed)) + 4 * (4 * width ** 2 + 3 * vocabularySize * width),
  };
}
