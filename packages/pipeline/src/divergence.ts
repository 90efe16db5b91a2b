// KL divergence to the reference on a few calibration batches: whether a finetune made the model better or worse.
import { klDivergence, type Model, materialize, readFloats, readNumber, sum, type Tensor, tensor } from '@lowbit/core';
import { resolveTree } from './resolve.js';
import type { Run } from './run.js';

/** Batches that a comparison reads. */
const BATCHES = 4;

/** Logits of each model that exist at one time: 32 MiB. */
const LOGITS = 2 ** 23;

/** The residual stream after the last block on the first calibration batches, one block in memory at a time. */
export async function lastHidden(run: Run, model: Model): Promise<readonly Tensor[]> {
  const count = Math.min(BATCHES, run.calibration.length);
  const embedding = await materialize(model.embedding);
  let streams: Tensor[] = [];
  for (let i = 0; i < count; i++) streams.push(embedding.forward(await run.calibration.at(i)));
  for (const lazy of model.blocks) {
    const block = await resolveTree(run.backend, lazy);
    const outputs: Tensor[] = [];
    for (const x of streams) outputs.push(...(await run.backend.evaluate([block.forward(x)])));
    streams = outputs;
  }
  return streams;
}

/** Mean KL(reference‖model) a token, in nats. */
export async function meanDivergence(run: Run, reference: Model, referenceHidden: readonly Tensor[], model: Model): Promise<number> {
  const hidden = await lastHidden(run, model);
  // Pieces of equal size share a program: as few as may be, the last one of a batch perhaps smaller.
  const most = Math.max(1, Math.floor(LOGITS / model.config.vocabularySize));
  let total = 0;
  for (const [i, x] of hidden.entries()) {
    const positions = x.size / x.shape[x.rank - 1];
    const size = Math.ceil(positions / Math.ceil(positions / most));
    const [ofReference, ofModel] = [await readFloats(referenceHidden[i]), await readFloats(x)];
    let ofBatch = 0;
    for (let start = 0; start < positions; start += size) {
      const end = Math.min(start + size, positions);
      // Leaves: a slice would make each piece a program of its own. A transform may have made the model's stream wider than the reference's.
      const piece = (values: Float32Array): Tensor => {
        const width = values.length / positions;
        return tensor(values.subarray(start * width, end * width), [end - start, width]);
      };
      const [kl] = await run.backend.evaluate([sum(klDivergence(reference.logits(piece(ofReference)), model.logits(piece(ofModel))))]);
      ofBatch += await readNumber(kl);
    }
    total += ofBatch / positions;
  }
  return total / hidden.length;
}
