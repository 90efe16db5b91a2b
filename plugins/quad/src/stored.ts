// Columns and scales that have been computed or trained, as they are stored.
import { roundToFloat16 } from '@lowbit/core';
import type { ScaleDtype } from '@lowbit/quant';

const LARGEST_FLOAT16 = 65504;
const smallest: Readonly<Record<ScaleDtype, number>> = { float16: 2 ** -24, float32: 2 ** -126 };

/** Outlier columns; what would overflow float16 takes its largest value. */
export function storedColumns(values: Float32Array, dtype: ScaleDtype): Float32Array {
  return values.map((x) => storedValue(x, dtype));
}

/** Scales; one that training took through 0 takes the smallest value of the sign that it had. */
export function storedScales(values: Float32Array, before: Float32Array, dtype: ScaleDtype): Float32Array {
  return values.map((x, i) => {
    const sign = before[i] < 0 ? -1 : 1;
    return sign * Math.max(smallest[dtype], storedValue(sign * x, dtype));
  });
}

function storedValue(x: number, dtype: ScaleDtype): number {
  return dtype === 'float16' ? roundToFloat16(Math.max(-LARGEST_FLOAT16, Math.min(LARGEST_FLOAT16, x))) : x;
}
