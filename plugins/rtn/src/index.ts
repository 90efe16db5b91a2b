// Round to nearest: every weight goes to the closest point of a grid fitted to its group. The template of a method plugin.
import { checkDense, defineMethod, readFloats, requireDense } from '@lowbit/core';
import { checkGroups, gridOptions, QuantizedLinear, quantizeWeight } from '@lowbit/quant';
import { z } from 'zod';

/** The baseline of every comparison: no data, no search. */
export const rtn = defineMethod({
  name: 'rtn',
  version: 1,
  description: 'Round to nearest: no data, no search; the baseline of every comparison',
  options: z.strictObject(gridOptions),
  makes: 'affine',
  check(linear, { groupSize }) {
    checkDense(linear);
    checkGroups(linear, groupSize);
  },
  async quantizeLinear(linear, { path, options, backend }) {
    const dense = requireDense(linear, path);
    const [weight] = await backend.evaluate([dense.weight]);
    return new QuantizedLinear(quantizeWeight(await readFloats(weight), weight.shape, { ...options, path }), dense.bias);
  },
});

export default rtn;
