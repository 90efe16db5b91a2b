// Calibration windows in batches of another size.
import type { Indexed } from '@lowbit/train';

/** The windows with some indices, `size` at a time; the last batch has what remains. */
export function windowBatches<Batch>(
  indices: readonly number[],
  size: number,
  read: (indices: readonly number[]) => Promise<Batch>,
): Indexed<Batch> {
  return { length: Math.ceil(indices.length / size), at: (index) => read(indices.slice(index * size, (index + 1) * size)) };
}
