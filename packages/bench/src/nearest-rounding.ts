// What the runner compares every method with: the same layer rounded to nearest in the same representation.
import { type Backend, DenseLinear, readFloats } from '@lowbit/core';
import type { NearestRounding } from '@lowbit/pipeline';
import { QuantizedLinear, quantizeWeight } from '@lowbit/quant';

/** Rounds to the bits, groups and kind of zero of an affine layer; other representations have no counterpart and are passed over. */
export function nearestRounding(backend: Backend): NearestRounding {
  return async (original, quantized, path) => {
    if (!(quantized instanceof QuantizedLinear) || !(original instanceof DenseLinear)) return undefined;
    const { bits, groupSize, zeroKind, scaleDtype } = quantized.weight;
    const [weight] = await backend.evaluate([original.weight]);
    const options = { bits, groupSize, symmetric: zeroKind === 'symmetric', scaleDtype, clip: 'minmax', path } as const;
    return new QuantizedLinear(quantizeWeight(await readFloats(weight), weight.shape, options), original.bias);
  };
}
