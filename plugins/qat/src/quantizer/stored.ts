// Scales, offsets and zero points as they are stored, as graphs whose gradients pass through the rounding.
import { abs, clip, maximum, mul, round, sign, straightThrough, type Tensor } from '@lowbit/core';
import { halfRounded, type ScaleDtype, smallestScale } from '@lowbit/quant';

/** Scales that are positive, never 0. Gradients pass below the smallest too, so that a scale which was driven there can come back. */
export function storedScale(scale: Tensor, dtype: ScaleDtype): Tensor {
  const bounded = straightThrough(maximum(scale, smallestScale[dtype]), scale);
  return dtype === 'float16' ? halfRounded(bounded) : bounded;
}

/** start · factor; it keeps the sign of the start, a stored scale, which it is at 1. */
export function relativeScale(start: Tensor, factor: Tensor, dtype: ScaleDtype): Tensor {
  return mul(sign(start), storedScale(mul(abs(start), factor), dtype));
}

export function storedOffset(offset: Tensor, dtype: ScaleDtype): Tensor {
  return dtype === 'float16' ? halfRounded(offset) : offset;
}

/** The nearest code, a whole float32 number. Gradients pass at the ends too, so that a point which was driven there can come back. */
export function storedPoint(point: Tensor, bits: number): Tensor {
  return straightThrough(clip(round(point), 0, 2 ** bits - 1), point);
}
