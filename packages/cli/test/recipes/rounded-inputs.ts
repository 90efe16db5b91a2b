// A recipe that quantizes inputs to 8 bits and weights to 4 bits with one scale an output, the down projections' in groups.
import { defineMethod } from '@lowbit/core';
import { ActivationQuantizedLinear } from '@lowbit/quant';
import { rtn } from '@lowbit/rtn';
import { z } from 'zod';

const roundInputs = defineMethod({
  name: 'round-inputs',
  version: 1,
  options: z.strictObject({}),
  async transform(model) {
    const blocks = model.blocks.map((block) => {
      const rounded = Object.entries(block.linears).map(([name, linear]) => [name, new ActivationQuantizedLinear(linear, { bits: 8 })]);
      return block.with({ linears: Object.fromEntries(rounded) });
    });
    return model.with({ blocks });
  },
});

export default [roundInputs({}), rtn({ bits: 4, groupSize: -1, overrides: { '**.down_proj': { groupSize: 16 } } })];
