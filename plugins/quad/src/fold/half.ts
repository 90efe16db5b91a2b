// What stays in full precision, as it is stored.
import { LowbitError, roundToFloat16 } from '@lowbit/core';

export type FullPrecision = 'float16' | 'float32';

export const bitsOf: Readonly<Record<FullPrecision, number>> = { float16: 16, float32: 32 };

/** The values as the type holds them. @throws FLOAT16_RANGE naming where when one is too large. */
export function stored(values: Float32Array, dtype: FullPrecision, where: string): Float32Array {
  if (dtype === 'float32') return values;
  return values.map((value) => {
    const rounded = roundToFloat16(value);
    if (Number.isFinite(rounded) || !Number.isFinite(value)) return rounded;
    throw new LowbitError('FLOAT16_RANGE', `${where}: ${value} is beyond the range of float16; use dtype 'float32'`);
  });
}
