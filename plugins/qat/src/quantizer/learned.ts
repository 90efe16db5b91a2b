// Learned scales and offsets: LSQ (arXiv 1902.08153), LSQ+ (arXiv 2004.09576), and EfficientQAT's integer zero points (arXiv 2407.11062).
import { add, mul, read, type Tensor, tensor } from '@lowbit/core';
import type { AffineWeight } from '@lowbit/quant';
import type { NamedTensors } from '@lowbit/train';
import { codesOf, type FakeQuantized, type FakeQuantizer, offsetOf, valueOf, type Zero } from './fake-quantizer.js';
import type { WeightStart } from './start.js';
import { relativeScale, storedOffset, storedPoint } from './stored.js';

/**
 * Weights beyond the last code get no gradient in LSQ and LSQ+; with a zero point those that still round to it do, as in EfficientQAT. A
 * weight on the last code itself is inside, whatever the last place of its float says.
 */
const margins = { symmetric: 2 ** -8, free: 2 ** -8, integer: 0.5 } as const;

/** Weight, scale, and zero point or offset are trained, the latter two relative to the scale that they begin with. */
export async function learnedQuantizer({ weight, latent }: WeightStart): Promise<FakeQuantizer> {
  const grid = await trainedGrid(weight, { trainsZeroPoints: true });
  const { bits } = weight;
  return {
    start: new Map([['latent', latent], ...grid.start]),
    gradientScale: gradientScale(weight),
    quantized(values) {
      const parts = grid.at(values);
      const margin = margins[parts.zero.kind];
      const codes = codesOf({ latent: valueOf(values, 'latent'), scale: parts.scale, offset: offsetOf(parts), bits, margin });
      return { ...parts, codes };
    },
  };
}

/** Scale and free offset are trained; codes and zero points stay. */
export async function frozenCodes(weight: AffineWeight): Promise<FakeQuantizer> {
  const grid = await trainedGrid(weight, { trainsZeroPoints: false });
  return {
    start: grid.start,
    gradientScale: gradientScale(weight),
    quantized: (values) => ({ ...grid.at(values), codes: weight.codes }),
    frozen: weight,
  };
}

/**
 * g = 1 / √(N · Q), N the weights that share a scale and Q = 2^(bits−1) − 1 the largest positive level of a symmetric grid, 1 at least (LSQ,
 * arXiv 1902.08153, §2.2, whose layers have one scale each). The same g for zero points and offsets, which move levels as a scale does.
 */
export function gradientScale({ bits, groupSize }: Pick<AffineWeight, 'bits' | 'groupSize'>): number {
  return 1 / Math.sqrt(groupSize * Math.max(1, 2 ** (bits - 1) - 1));
}

interface TrainedGrid {
  readonly start: NamedTensors;
  at(values: NamedTensors): Omit<FakeQuantized, 'codes'>;
}

async function trainedGrid(weight: AffineWeight, { trainsZeroPoints }: { readonly trainsZeroPoints: boolean }): Promise<TrainedGrid> {
  const { bits, scaleDtype, scale, offset, zeroKind } = weight;
  const point = weight.zeroPoint && tensor(Float32Array.from(await read(weight.zeroPoint)), scale.shape);
  const trainsZero = zeroKind === 'free' || (zeroKind === 'integer' && trainsZeroPoints);
  const zeroAt = (values: NamedTensors): Zero => {
    if (offset) return { kind: 'free', offset: storedOffset(add(offset, mul(scale, valueOf(values, 'zero'))), scaleDtype) };
    if (!point) return { kind: 'symmetric' };
    return { kind: 'integer', point: trainsZero ? storedPoint(add(point, valueOf(values, 'zero')), bits) : point };
  };
  return {
    start: new Map([['scale', filled(scale, 1)], ...(trainsZero ? [['zero', filled(scale, 0)] as const] : [])]),
    at: (values) => ({ bits, scaleDtype, scale: relativeScale(scale, valueOf(values, 'scale'), scaleDtype), zero: zeroAt(values) }),
  };
}

/** A leaf of a tensor's shape. */
function filled({ shape, size }: Tensor, value: number): Tensor {
  return tensor(new Float32Array(size).fill(value), shape);
}
