// Calibration batches as single windows, which come back in batches of another size.
import { arrayTypes, type Batches, read, type Tensor, tensor } from '@lowbit/core';
import type { Indexed } from '@lowbit/train';

/** Windows that `batches` hold together; all batches have equal shapes. */
export async function windowCount(batches: Batches): Promise<number> {
  return batches.length === 0 ? 0 : batches.length * (await batches.at(0)).shape[0];
}

/** The windows with some indices, `size` at a time; the last batch has what remains. */
export function windowBatches<Batch>(
  indices: readonly number[],
  size: number,
  read: (indices: readonly number[]) => Promise<Batch>,
): Indexed<Batch> {
  return { length: Math.ceil(indices.length / size), at: (index) => read(indices.slice(index * size, (index + 1) * size)) };
}

/** Some windows of batches [batch, …], copied into one leaf [indices, …]. */
export async function gatherWindows(batches: Batches, indices: readonly number[]): Promise<Tensor> {
  const { shape, dtype } = await batches.at(0);
  const [perBatch, ...rest] = shape;
  const size = rest.reduce((product, n) => product * n, 1);
  const gathered = new arrayTypes[dtype](indices.length * size);
  for (const [i, index] of indices.entries()) {
    const data = await read(await batches.at(Math.floor(index / perBatch)));
    const start = (index % perBatch) * size;
    gathered.set(data.subarray(start, start + size), i * size);
  }
  return tensor(gathered, [indices.length, ...rest]);
}
