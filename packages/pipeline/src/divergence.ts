// KL divergence to the reference on a few calibration batches: whether a finetune made the model better or worse.
import { klDivergence, type Model, materialize, mean, readNumber, type Tensor } from '@lowbit/core';
import { resolveTree } from './resolve.js';
import type { Run } from './run.js';

/** Batches that a comparison reads. */
const BATCHES = 4;

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
  let total = 0;
  for (const [i, x] of hidden.entries()) {
    const [kl] = await run.backend.evaluate([mean(klDivergence(reference.logits(referenceHidden[i]), model.logits(x)))]);
    total += await readNumber(kl);
  }
  return total / hidden.length;
}
