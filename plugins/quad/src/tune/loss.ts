// What tuning minimises.
import { type Backend, klDivergence, type Model, mul, readFloats, sum, tensor } from '@lowbit/core';
import { lastHidden, type PositionsLoss, positionWeights, type WindowBatch } from '@lowbit/train';

/** Mean KL divergence from a model's predictions, in nats a token. The model is run anew for each part. */
export function distillationLoss(backend: Backend, reference: Model): (part: WindowBatch) => Promise<PositionsLoss> {
  return async (part) => {
    const hidden = await readFloats(await lastHidden(backend, reference, part.tokens));
    const width = hidden.length / part.tokens.size;
    const { everyToken } = await positionWeights(part);
    return (model, own, start, end) => {
      const taught = tensor(hidden.subarray(start * width, end * width), [end - start, width]);
      const divergences = klDivergence(reference.logits(taught), model.logits(own));
      return { loss: sum(mul(divergences, tensor(everyToken.subarray(start, end)))) };
    };
  };
}
