// Ranges that are recomputed from the weight at every step; gradients pass straight through (the paper's quantizer, arXiv 2410.14570).
import { cast, readFloats, type Shape, type Tensor } from '@lowbit/core';
import type { AffineWeight } from '@lowbit/quant';
import { codesOf, type FakeQuantizer, offsetOf, valueOf, type Zero } from './fake-quantizer.js';
import { type GridFormat, roundedWeight } from './start.js';

/** The rounding of scale and zero point may leave weights that the range covers beyond the last code by about half a step. */
const MARGIN = 1;

/** The grid is fitted on the host, as rounding to nearest does it, and no gradient reaches it. */
export function minmaxQuantizer(start: Tensor, format: GridFormat): FakeQuantizer {
  const { bits, scaleDtype } = format;
  return {
    start: new Map([['latent', start]]),
    gradientScale: 1,
    async quantized(values) {
      const latent = valueOf(values, 'latent');
      const { scale, zeroPoint, offset } = await gridOf(await readFloats(latent), start.shape, format);
      const zero: Zero = offset
        ? { kind: 'free', offset }
        : zeroPoint
          ? { kind: 'integer', point: cast(zeroPoint, 'float32') }
          : { kind: 'symmetric' };
      const parts = { bits, scaleDtype, scale, zero };
      return { ...parts, codes: codesOf({ latent, scale, offset: offsetOf(parts), bits, margin: MARGIN }) };
    },
  };
}

function gridOf(values: Float32Array, shape: Shape, format: GridFormat): Promise<AffineWeight> {
  // Weights that have left the finite numbers have no range; the loss is to say so, not this.
  const finite = values.every(Number.isFinite) ? values : new Float32Array(values.length);
  return roundedWeight(finite, shape, format);
}
