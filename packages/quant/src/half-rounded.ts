// Rounding to float16 as a graph, for scales that are trained in the form in which they are stored.
import { abs, clip, constant, div, lessEqual, mul, round, straightThrough, type Tensor, where } from '@lowbit/core';

const LARGEST = 65504;
/** Distance of the float16 numbers below 2^-13: of the subnormal and the smallest normal ones. */
const SMALLEST_QUANTUM = 2 ** -24;

/**
 * x rounded to float16, ties to even, bit for bit as `roundToFloat16` of core; what lies beyond 65504 takes that value. The gradient
 * passes straight through.
 */
export function halfRounded(x: Tensor): Tensor {
  // 2^e for |x| in 2^(e−14) ≤ |x| < 2^(e−13), e = 0 … 29; 1 below: found bit by bit, since no operator gives an exponent exactly.
  let rest = mul(abs(x), 2 ** 14);
  let power = constant(1);
  for (const step of [16, 8, 4, 2, 1]) {
    const reaches = lessEqual(2 ** step, rest);
    rest = where(reaches, mul(rest, 2 ** -step), rest);
    power = where(reaches, mul(power, 2 ** step), power);
  }
  const quantum = mul(power, SMALLEST_QUANTUM);
  // Dividing and multiplying by powers of two is exact.
  return straightThrough(clip(mul(round(div(x, quantum)), quantum), -LARGEST, LARGEST), x);
}
