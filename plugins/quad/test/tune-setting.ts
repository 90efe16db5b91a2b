// What tests of tuning and compensation share: outlier columns without a rotation, and text that can be learned.
import { batchesOf, type DenseLinear, defineMethod, type Linear, slice, type TokenBatches, tensor } from '@lowbit/core';
import { ActivationQuantizedLinear, SplitLinear } from '@lowbit/quant';
import { rtn } from '@lowbit/rtn';
import { z } from 'zod';

/** The first inputs of every Linear in full precision, the others rounded: no rotation, so that every Linear has outlier columns. */
export const outlierColumns = defineMethod({
  name: 'outlier-columns',
  version: 1,
  options: z.strictObject({ rank: z.int(), bits: z.int(), outlierDtype: z.enum(['float16', 'float32']).default('float32') }),
  transform: async (model, { options: { rank, bits, outlierDtype } }) => {
    const split = (linear: Linear): Linear => {
      const { weight } = linear as DenseLinear;
      const outlier = slice(weight, 1, 0, rank);
      const rest = (linear as DenseLinear).withWeight(slice(weight, 1, rank, weight.shape[1]));
      const rounded = bits < 16 ? new ActivationQuantizedLinear(rest, { bits, clipRatio: 0.9 }) : rest;
      return new SplitLinear({ outlier, rest: rounded, outlierDtype });
    };
    const blocks = model.blocks.map((block) =>
      block.with({ linears: Object.fromEntries(Object.entries(block.linears).map(([name, linear]) => [name, split(linear)])) }),
    );
    return model.with({ blocks });
  },
});

/** As QUAD has its weights: symmetric, a scale for each output. */
export const perChannel = (bits = 4) => rtn({ bits, groupSize: -1, symmetric: true });

/** Text in which each token decides the next: 16 windows of 12. */
const text = Array.from({ length: 8 }, (_, batch) =>
  tensor(
    Int32Array.from({ length: 24 }, (_, i) => (7 * (Math.floor(i / 12) + 2 * batch) + 5 * (i % 12)) % 64),
    [2, 12],
  ),
);
export const arithmetic: TokenBatches = { ...batchesOf(text), hash: 'arithmetic', description: 'arithmetic' };
