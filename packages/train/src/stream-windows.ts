// Activations that come in batches as single windows, which are put together anew in batches of another size.
import { arrayTypes, type Batches, formatShape, LowbitError, read, sameShape, type Tensor, tensor } from '@lowbit/core';

/** Windows that `batches` hold together; all batches have equal shapes. */
export async function windowCount(batches: Batches): Promise<number> {
  return batches.length === 0 ? 0 : batches.length * (await batches.at(0)).shape[0];
}

/**
 * Some windows of batches [batch, …], counted through all of them, copied into one leaf [indices, …].
 * @throws CALIBRATION_WINDOWS when batches have different shapes.
 */
export async function gatherWindows(batches: Batches, indices: readonly number[]): Promise<Tensor> {
  const { shape, dtype } = await batches.at(0);
  const [perBatch, ...rest] = shape;
  const size = rest.reduce((product, n) => product * n, 1);
  const gathered = new arrayTypes[dtype](indices.length * size);
  for (const [i, index] of indices.entries()) {
    const batch = await batches.at(Math.floor(index / perBatch));
    if (!sameShape(batch.shape, shape)) {
      const shapes = `one batch is ${formatShape(batch.shape)}, the first ${formatShape(shape)}`;
      throw new LowbitError('CALIBRATION_WINDOWS', `${shapes}; cut the text into windows of one length, and batches of one size`);
    }
    const start = (index % perBatch) * size;
    gathered.set((await read(batch)).subarray(start, start + size), i * size);
  }
  return tensor(gathered, [indices.length, ...rest]);
}
