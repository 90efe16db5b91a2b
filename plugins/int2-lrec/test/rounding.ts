// A quantizer for tests: every Linear rounded to nearest.
import { type DenseLinear, defineMethod, readFloats } from '@lowbit/core';
import { gridOptions, QuantizedLinear, quantizeWeight } from '@lowbit/quant';
import { z } from 'zod';

export const rounding = defineMethod({
  name: 'rounding',
  version: 1,
  options: z.strictObject(gridOptions),
  async quantizeLinear(linear, { options }) {
    const { weight, bias } = linear as DenseLinear;
    return new QuantizedLinear(quantizeWeight(await readFloats(weight), weight.shape, options), bias);
  },
});
