// {{name}}: what the method does, in a sentence, and the paper that it is from.
import { checkDense, defineMethod, energy, readFloats, requireDense } from '@lowbit/core';
import { bitsOption, checkGroups, groupSizeOption, QuantizedLinear, quantizeWeight } from '@lowbit/quant';
import { z } from 'zod';

/** A place to begin: rounding to nearest, in ranges that are shrunk where that lowers the error of weights whose inputs are large. */
export default defineMethod({
  name: '{{name}}',
  // Raise it whenever equal options give other weights: stored blocks and benchmark rows are told apart by it.
  version: 1,
  description: 'Rounding to nearest in the ranges that are best for the inputs that there are',
  options: z.strictObject({
    bits: bitsOption,
    groupSize: groupSizeOption,
    strength: z.number().min(0).max(1).default(1).describe('Power of an input’s energy that its weights’ errors count by; 0: all alike'),
  }),
  makes: 'affine',
  // Folded over the calibration text once for all Linears that read the same input: Σ x² of each.
  statistics: { energy },
  check(linear, { groupSize }) {
    checkDense(linear);
    checkGroups(linear, groupSize);
  },
  async quantizeLinear(linear, { path, options, stats, backend, log }) {
    const dense = requireDense(linear, path);
    const [weight] = await backend.evaluate([dense.weight]);
    const importance = (await readFloats(stats.energy)).map((energy) => energy ** options.strength);
    const grid = { ...options, symmetric: false, clip: 'mse', scaleDtype: 'float16', path } as const;
    const quantized = quantizeWeight(await readFloats(weight), weight.shape, grid, importance);
    log({ inputs: importance.length, deadInputs: importance.filter((value) => value === 0).length });
    return new QuantizedLinear(quantized, dense.bias);
  },
});
