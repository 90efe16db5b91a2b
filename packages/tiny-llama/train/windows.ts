// Training windows: every epoch cuts the token stream at a fresh offset and visits the windows in a fresh order.
import { LowbitError, type Rng, type Tensor, tensor } from '@lowbit/core';

/** Batch `index` of the run, int32 [batch, length + 1]: windows overlap by one token, which is the target of one and the input of the next. */
export function trainingBatch(tokens: ArrayLike<number>, length: number, batch: number, index: number, rng: Rng): Tensor {
  const perEpoch = Math.floor((tokens.length - length - 1) / length);
  const batches = Math.floor(perEpoch / batch);
  if (batches < 1) {
    throw new LowbitError(
      'CORPUS_SIZE',
      `trainingBatch: ${tokens.length} tokens do not fill a batch of ${batch} windows of ${length}; give more text`,
    );
  }
  const epoch = Math.floor(index / batches);
  const [offset] = rng.at('offset', epoch).integers(1, length);
  const order = rng.at('order', epoch).permutation(perEpoch);
  const out = new Int32Array(batch * (length + 1));
  for (let row = 0; row < batch; row++) {
    const start = offset + order[(index % batches) * batch + row] * length;
    for (let i = 0; i <= length; i++) out[row * (length + 1) + i] = tokens[start + i];
  }
  return tensor(out, [batch, length + 1]);
}
