// Ranges that are recomputed from the weight at every step; gradients pass straight through (the paper's quantizer, arXiv 2410.14570).
import { readFloats, type Shape, type Tensor, tensor } from '@lowbit/core';
import type { Grid, ScaleDtype } from '@lowbit/quant';
import { codesOf, type FakeQuantizer, offsetOf, valueOf, type Zero } from './fake-quantizer.js';
import { type GridFormat, nearestGrid } from './start.js';

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
      const grid = gridOf(await readFloats(latent), start.shape, format);
      const perGroup = [grid.outFeatures, grid.inFeatures / grid.groupSize];
      const scale = tensor(grid.scale, perGroup);
      const parts = { bits, scaleDtype, scale, zero: zeroOf(grid, perGroup) };
      return { ...parts, codes: codesOf({ latent, scale, offset: offsetOf(parts), bits, margin: MARGIN }) };
    },
  };
}

/** Magnitudes whose ranges have scales that can be stored, at one bit too. */
const WIDEST: Readonly<Record<ScaleDtype, number>> = { float16: 2 ** 14, float32: 2 ** 126 };

/** Weights that training has driven beyond all ranges are cut to the widest: the loss is to say so, not this. */
function gridOf(values: Float32Array, shape: Shape, format: GridFormat): Grid {
  const widest = WIDEST[format.scaleDtype];
  const hasRange = values.every((w) => Math.abs(w) <= widest);
  const within = hasRange ? values : values.map((w) => (Number.isNaN(w) ? 0 : Math.max(-widest, Math.min(widest, w))));
  return nearestGrid(within, shape, format).stored;
}

function zeroOf({ zeroKind, zeroPoint, offset }: Grid, perGroup: Shape): Zero {
  if (zeroKind === 'free') return { kind: 'free', offset: tensor(offset, perGroup) };
  return zeroPoint ? { kind: 'integer', point: tensor(Float32Array.from(zeroPoint), perGroup) } : { kind: 'symmetric' };
}
