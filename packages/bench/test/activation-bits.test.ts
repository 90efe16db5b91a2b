import { ActivationQuantizedLinear } from '@lowbit/quant';
import { expect, it } from 'vitest';
import { activationBits } from '../src/activation-bits.js';
import { resolveModel } from '../src/model-reference.js';

it('is the narrowest width of inputs, however deep it is wrapped, and nothing where none is quantized', async () => {
  const { model } = await resolveModel('tiny');
  expect(activationBits(model)).toBeUndefined();
  const block = model.blocks[1];
  const [down, up] = [block.linears['mlp.down_proj'], block.linears['mlp.up_proj']];
  const four = new ActivationQuantizedLinear(new ActivationQuantizedLinear(down, { bits: 4 }), { bits: 8 });
  const linears = { 'mlp.down_proj': four, 'mlp.up_proj': new ActivationQuantizedLinear(up, { bits: 6 }) };
  expect(activationBits(model.withBlock(1, block.with({ linears })))).toBe(4);
});
