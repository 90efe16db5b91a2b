// Losses over vocabulary logits.
import { LowbitError } from '../errors.js';
import { formatShape, sameShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { apply } from './apply.js';
import type { CompositeDefinition } from './definition.js';
import { cast, equal, mul, neg, sub } from './elementwise.js';
import { range, reshape, takeAlongLast } from './movement.js';
import { logSoftmax, softmax, sum } from './reduce.js';

/** −log softmax(logits)[target] at each position, in nats: logits [..., V], int32 targets [...] → [...]. */
export function crossEntropy(logits: Tensor, targets: Tensor): Tensor {
  return apply('crossEntropy', [logits, targets]);
}

/** KL(P‖Q) at each position, in nats, from logits of P (the reference) and Q: [..., V] → [...]. */
export function klDivergence(referenceLogits: Tensor, logits: Tensor): Tensor {
  return apply('klDivergence', [referenceLogits, logits]);
}

/** [...] → [..., 1] */
const column = (x: Tensor): Tensor => reshape(x, [...x.shape, 1]);

/** log P − log Q */
const logRatio = (p: Tensor, q: Tensor): Tensor => sub(logSoftmax(p), logSoftmax(q));

export const lossOps: Record<'crossEntropy' | 'klDivergence', CompositeDefinition> = {
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
      return [mul(sub(softmax(logits), hit), column(upstream)), undefined];
    },
  },
  klDivergence: {
    kind: 'composite',
    infer: ([p, q]) => {
      if (p.rank === 0 || !sameShape(p.shape, q.shape)) {
        throw new LowbitError(
          'SHAPE_LOGITS',
          `klDivergence: logits ${formatShape(p.shape)} and ${formatShape(q.shape)} must have one shape`,
        );
      }
      return { shape: q.shape.slice(0, -1), dtype: q.dtype };
    },
    decompose: ([p, q]) => sum(mul(softmax(p), logRatio(p, q)), [-1]),
    // Over a vocabulary every pass costs as much as the memory it goes through. P sums to 1: Q's logits get Q − P, without the logarithms.
    gradient: ({ inputs: [p, q], output, upstream }) => [
      mul(mul(softmax(p), sub(logRatio(p, q), column(output))), column(upstream)),
      mul(sub(softmax(q), softmax(p)), column(upstream)),
    ],
  },
};
