// Learned weight clipping: the range of the weight, each end shrunk by a factor of its own (OmniQuant, arXiv 2308.13137, eq. 2).
import { detach, div, max, maximum, mul, neg, reshape, sigmoid, sub, type Tensor, tensor } from '@lowbit/core';
import { codesOf, type FakeQuantizer, offsetOf, valueOf, type Zero } from './fake-quantizer.js';
import { gradientScale } from './learned.js';
import type { WeightStart } from './start.js';
import { storedOffset, storedPoint, storedScale } from './stored.js';

/** σ(4) = 0.982: the range is nearly that of the weight. */
const OPEN = 4;

/** Both ends of a range follow the weight, without gradients to it, and are as wide as σ of what is trained. The range holds 0. */
export function lwcQuantizer({ weight, latent }: WeightStart): FakeQuantizer {
  const { bits, scaleDtype, groupSize, zeroKind } = weight;
  const { shape, size } = weight.scale;
  const open = (): Tensor => tensor(new Float32Array(size).fill(OPEN), shape);
  const largest = 2 ** bits - 1;
  return {
    start: new Map([
      ['latent', latent],
      ['low', open()],
      ['high', open()],
    ]),
    gradientScale: gradientScale(weight),
    quantized(values) {
      const own = valueOf(values, 'latent');
      const grouped = reshape(detach(own), [...shape, groupSize]);
      const peak = (x: Tensor): Tensor => maximum(max(x, [-1]), 0);
      const high = mul(peak(grouped), sigmoid(valueOf(values, 'high')));
      const low = mul(neg(peak(neg(grouped))), sigmoid(valueOf(values, 'low')));
      const scale = storedScale(div(sub(high, low), largest), scaleDtype);
      const zero: Zero =
        zeroKind === 'free'
          ? { kind: 'free', offset: storedOffset(low, scaleDtype) }
          : { kind: 'integer', point: storedPoint(neg(div(low, scale)), bits) };
      const parts = { bits, scaleDtype, scale, zero };
      return { ...parts, codes: codesOf({ latent: own, scale, offset: offsetOf(parts), bits, margin: 0.5 }) };
    },
  };
}
