// What a fake quantizer is: weights on their grid as graphs over what is trained.
import {
  abs,
  cast,
  clip,
  dequantize,
  div,
  lessEqual,
  mul,
  neg,
  reshape,
  round,
  straightThrough,
  sub,
  type Tensor,
  where,
} from '@lowbit/core';
import { AffineWeight, type ScaleDtype, symmetricZero } from '@lowbit/quant';
import type { NamedTensors } from '@lowbit/train';

/** A weight w = scale · code + offset whose parts gradients flow through. */
export interface FakeQuantized {
  readonly bits: number;
  readonly scaleDtype: ScaleDtype;
  /** [out, in]: float32 with whole numbers 0 … 2^bits − 1, or uint8 where codes are not trained. */
  readonly codes: Tensor;
  /** [out, groups], rounded as it is stored. */
  readonly scale: Tensor;
  readonly zero: Zero;
}

/** Where the offset comes from; its kinds are those of `AffineWeight`. */
export type Zero =
  | { readonly kind: 'symmetric' }
  /** float32 [out, groups] with whole numbers 0 … 2^bits − 1. */
  | { readonly kind: 'integer'; readonly point: Tensor }
  /** float32 [out, groups], rounded as it is stored. */
  | { readonly kind: 'free'; readonly offset: Tensor };

/** What is trained of a weight. Tensors go by their roles: 'latent', the weight behind the codes, 'scale', … */
export interface FakeQuantizer {
  /** Leaves to begin with; that of a latent is computed when it is read. */
  readonly start: NamedTensors;
  /** The weight that values stand for. A grid may be found from them on the host; no gradient reaches it then. */
  quantized(values: NamedTensors): FakeQuantized | Promise<FakeQuantized>;
  /** Factor of the gradients of what is trained besides the latent, in LSQ. */
  readonly gradientScale: number;
  /** The weight that was given, where its codes stay and scale and free offset alone are trained. */
  readonly frozen?: AffineWeight;
}

/** A tensor of a role. */
export const valueOf = (values: NamedTensors, role: string): Tensor => values.get(role) as Tensor;

/** What code 0 stands for, [out, groups]: as `AffineWeight` has it, with zero points that gradients reach. */
export function offsetOf({ bits, scale, zero }: Omit<FakeQuantized, 'codes'>): Tensor {
  if (zero.kind === 'free') return zero.offset;
  return zero.kind === 'integer' ? neg(mul(scale, zero.point)) : mul(scale, -symmetricZero(bits));
}

/** The weight as a graph, float32 [out, in]: the same operator, on the same elements, as in the converted layer. */
export function weightOf(parts: FakeQuantized): Tensor {
  return dequantize(parts.codes, parts.scale, offsetOf(parts));
}

/** The same as it is stored: expressions without gradients. */
export function storedWeight({ bits, scaleDtype, codes, scale, zero }: FakeQuantized): AffineWeight {
  return new AffineWeight({
    bits,
    codes: cast(codes, 'uint8'),
    scale,
    zeroPoint: zero.kind === 'integer' ? cast(zero.point, 'uint8') : undefined,
    offset: zero.kind === 'free' ? zero.offset : undefined,
    scaleDtype,
  });
}

export interface CodesRequest {
  /** [out, in] */
  readonly latent: Tensor;
  /** [out, groups] */
  readonly scale: Tensor;
  /** What code 0 stands for, [out, groups]. */
  readonly offset: Tensor;
  readonly bits: number;
  /** How far beyond the first and the last code a weight may lie, in codes, for gradients still to reach it. */
  readonly margin: number;
}

/**
 * The codes nearest to a weight, whole float32 numbers [out, in], ties to even. Gradients pass straight through the rounding, and stop at
 * weights beyond the margin: what remains of those is the gradient of a constant code. That makes the gradients of LSQ (arXiv 1902.08153, eq. 3)
 * and LSQ+ (arXiv 2004.09576, eq. 4 and 5) with margin 0.
 */
export function codesOf({ latent, scale, offset, bits, margin }: CodesRequest): Tensor {
  const [out, inFeatures] = latent.shape;
  const groups = scale.shape[1];
  const perGroup = (x: Tensor): Tensor => reshape(x, [out, groups, 1]);
  const position = div(sub(reshape(latent, [out, groups, inFeatures / groups]), perGroup(offset)), perGroup(scale));
  const largest = 2 ** bits - 1;
  const isInside = lessEqual(abs(sub(position, largest / 2)), largest / 2 + margin);
  const codes = straightThrough(clip(round(position), 0, largest), where(isInside, position, 0));
  return reshape(codes, latent.shape);
}
