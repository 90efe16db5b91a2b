// Losses over vocabulary logits.
import { LowbitError } from '../errors.js';
import { formatShape, sameShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { apply } from './apply.js';
import type { CompositeDefinition } from './definition.js';
import { cast, equal, exp, mul, neg, sub } from './elementwise.js';
import { range, reshape, takeAlongLast } from './movement.js';
import { logSoftmax, softmax, sum } from './reduce.js';

/** −log softmax(logits)[target] at each position, in nats: logits [..., V], int32 targets [...] → [...]. */
export function crossEntropy(logits: Tensor, targets: Tensor): Tensor {
  return apply('crossEntropy', [logits, targets]);
}

/** KL(P‖Q) at each position, in nats, from logits of P (the reference) and Q: [..., V] → [...]. */
export function klDivergence(referenceLogits: Tensor, logits: Tensor): Tensor {
  const logP = logSoftmax(referenceLogits);
  return sum(mul(exp(logP), sub(logP, logSoftmax(logits))), [-1]);
}

export const lossOps: Record<'crossEntropy', CompositeDefinition> = {
  crossEntropy: {
    kind: 'composite',
    infer: ([logits, targets]) => {
      if (!sameShape(logits.shape.slice(0, -1), targets.shape)) {
        throw new LowbitError(
          'SHAPE_TARGETS',
          `crossEntropy: targets ${formatShape(targets.shape)} do not fit logits ${formatShape(logits.shape)}`,
        );
      }
      return { shape: targets.shape, dtype: logits.dtype };
    },
    decompose: ([logits, targets]) => neg(takeAlongLast(logSoftmax(logits), targets)),
    gradient: ({ inputs: [logits, targets], upstream }) => {
      const hit = cast(equal(range(logits.shape[logits.rank - 1]), reshape(targets, [...targets.shape, 1])), 'float32');
      return [mul(sub(softmax(logits), hit), reshape(upstream, [...upstream.shape, 1])), undefined];
    },
  },
};
