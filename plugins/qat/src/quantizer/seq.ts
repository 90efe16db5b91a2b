// Stretched elastic quantization: four levels around zero, none at it (ParetoQ, arXiv 2502.02631).
import { mul, readFloats, roundToFloat16, type Tensor, tensor } from '@lowbit/core';
import { smallestScale } from '@lowbit/quant';
import { codesOf, type FakeQuantizer, offsetOf, valueOf } from './fake-quantizer.js';
import { gradientScale } from './learned.js';
import type { GridFormat } from './start.js';
import { relativeScale, storedOffset } from './stored.js';

/** Other widths have learned scales in ParetoQ. */
export const SEQ_BITS = 2;

/** Levels are at ±¼ and ±¾ of α, a step of α/2 apart, and weights have a gradient up to 0.99 α, where ¾ α is the last level. */
const MIDDLE = 1.5;
const MARGIN = 2 * 0.99 - MIDDLE;

/** Weight and scale are trained; the offset, stored as a free one, is −1.5 times the scale. α begins as the largest magnitude of its group. */
export async function seqQuantizer(
  latent: Tensor,
  { groupSize, scaleDtype }: Pick<GridFormat, 'groupSize' | 'scaleDtype'>,
): Promise<FakeQuantizer> {
  const [out, inFeatures] = latent.shape;
  const size = groupSize === -1 ? inFeatures : groupSize;
  const values = await readFloats(latent);
  const steps = Float32Array.from({ length: values.length / size }, (_, g) => {
    const step = values.subarray(g * size, (g + 1) * size).reduce((peak, w) => Math.max(peak, Math.abs(w)), 0) / 2;
    return Math.max(smallestScale[scaleDtype], scaleDtype === 'float16' ? roundToFloat16(step) : step);
  });
  const start = tensor(steps, [out, inFeatures / size]);
  return {
    start: new Map([
      ['latent', latent],
      ['scale', tensor(new Float32Array(steps.length).fill(1), start.shape)],
    ]),
    gradientScale: gradientScale({ bits: SEQ_BITS, groupSize: size }),
    quantized(parameters) {
      const scale = relativeScale(start, valueOf(parameters, 'scale'), scaleDtype);
      const offset = storedOffset(mul(scale, -MIDDLE), scaleDtype);
      const parts = { bits: SEQ_BITS, scaleDtype, scale, zero: { kind: 'free', offset } } as const;
      return { ...parts, codes: codesOf({ latent: valueOf(parameters, 'latent'), ...parts, offset: offsetOf(parts), margin: MARGIN }) };
    },
  };
}
