// Ranges that are recomputed from the weight at every step; gradients pass straight through (the paper's quantizer, arXiv 2410.14570).
import { cast, readFloats, type Shape, type Tensor } from '@lowbit/core';
import type { NamedTensors } from '@lowbit/train';
import { codesOf, type FakeQuantizer, offsetOf, valueOf, type Zero } from './fake-quantizer.js';
import { type GridFormat, roundedWeight } from './start.js';

/** The rounding of scale and zero point may leave weights that the range covers beyond the last code by about half a step. */
const MARGIN = 1;

/** The grid is fitted on the host, as rounding to nearest does it, and no gradient reaches it. */
export function minmaxQuantizer(latent: Tensor, format: GridFormat): FakeQuantizer {
  const { bits, scaleDtype, zero: kind } = format;
  return {
    start: new Map([['latent', latent]]),
    gradientScale: 1,
    ranges: async (values) => rangesOf(await readFloats(valueOf(values, 'latent')), latent.shape, format),
    quantized(values) {
      const zero: Zero =
        kind === 'symmetric'
          ? { kind }
          : kind === 'integer'
            ? { kind, point: cast(valueOf(values, 'zeroPoint'), 'float32') }
            : { kind, offset: valueOf(values, 'offset') };
      const parts = { bits, scaleDtype, scale: valueOf(values, 'scale'), zero };
      const codes = codesOf({ latent: valueOf(values, 'latent'), scale: parts.scale, offset: offsetOf(parts), bits, margin: MARGIN });
      return { ...parts, codes };
    },
  };
}

async function rangesOf(values: Float32Array, shape: Shape, format: GridFormat): Promise<NamedTensors> {
  // Weights that have left the finite numbers have no range; the loss is to say so, not this.
  const finite = values.every(Number.isFinite) ? values : new Float32Array(values.length);
  const { scale, zeroPoint, offset } = await roundedWeight(finite, shape, format);
  const parts = Object.entries({ scale, zeroPoint, offset });
  return new Map(parts.flatMap(([role, t]): [string, Tensor][] => (t ? [[role, t]] : [])));
}
