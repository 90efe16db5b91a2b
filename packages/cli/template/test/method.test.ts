// The contract of a method, and what this one promises.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { mean, readFloats, square, sub } from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { linearKinds } from '@lowbit/quant';
import { createToyModel, createToyTokens, describeMethod } from '@lowbit/testkit';
import { expect, it } from 'vitest';
import method from '../src/index.js';

describeMethod(method, {
  quantize,
  createBackend: createReferenceBackend,
  options: { bits: 3, groupSize: 16 },
  override: { bits: 2 },
  kinds: linearKinds,
});

it('lowers the error of outputs where some inputs are large', async () => {
  const backend = createReferenceBackend();
  const model = createToyModel({ seed: 3, outliers: 2 });
  const calibration = createToyTokens({ seed: 4 });
  const meanError = async (strength: number): Promise<number> => {
    const recipe = [method({ bits: 2, groupSize: 16, strength })];
    const { model: quantized } = await quantize({ model, backend, recipe, calibration, seed: 0 });
    const tokens = await calibration.at(0);
    const difference = sub(model.forward(tokens), quantized.forward(tokens));
    const [error] = await backend.evaluate([mean(square(difference))]);
    return (await readFloats(error))[0];
  };
  expect(await meanError(1)).toBeLessThan(await meanError(0));
});
