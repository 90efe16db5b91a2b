// Factors of adapters as they are stored.
import { readFloats, roundToFloat16, type Tensor, tensor } from '@lowbit/core';
import type { ScaleDtype } from '@lowbit/quant';
import type { NamedTensors } from '@lowbit/train';

const LARGEST_FLOAT16 = 65504;

/** Values as they are stored; what would overflow float16 takes its largest value. */
export function storedValues(values: Float32Array, dtype: ScaleDtype): Float32Array {
  return dtype === 'float32' ? values : values.map((x) => roundToFloat16(Math.max(-LARGEST_FLOAT16, Math.min(LARGEST_FLOAT16, x))));
}

/** Factors by name as they are stored. */
export async function storedFactors(factors: NamedTensors, dtypes: ReadonlyMap<string, ScaleDtype>): Promise<NamedTensors> {
  const result = new Map<string, Tensor>();
  for (const [name, t] of factors) {
    const isHalf = dtypes.get(name) === 'float16';
    result.set(name, isHalf ? tensor(storedValues(await readFloats(t), 'float16'), t.shape) : t);
  }
  return result;
}
