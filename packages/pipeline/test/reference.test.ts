// What a method learns of the full-precision weight behind a quantized one.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { DenseLinear, defineMethod, gram, type RunEvent, read } from '@lowbit/core';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { expect, it } from 'vitest';
import { z } from 'zod';
import { quantize } from '../src/index.js';
import { logitDifference, rotate } from './methods/rotate.js';
import { nearest } from './methods/round.js';

const backend = createReferenceBackend();
const calibration = createToyTokens({ seed: 2 });

/** Puts back the full-precision weight: a correction of full rank. */
const restore = defineMethod({
  name: 'test-restore',
  version: 1,
  options: z.strictObject({}),
  statistics: { gram },
  async quantizeLinear(_linear, { reference }) {
    const dense = await reference();
    return new DenseLinear(dense.effectiveWeight(), dense instanceof DenseLinear ? dense.bias : undefined);
  },
});

it('is the weight that earlier steps quantized', async () => {
  const model = createToyModel({ seed: 4 });
  const { model: restored } = await quantize({ model, backend, recipe: [nearest({ bits: 3 }), restore()], calibration });
  for (const [i, block] of restored.blocks.entries()) {
    for (const [name, linear] of Object.entries(block.linears)) {
      expect(await read(linear.effectiveWeight()), name).toEqual(await read(model.blocks[i].linears[name].effectiveWeight()));
    }
  }
});

it('is the Linear itself where nothing was quantized before', async () => {
  const model = createToyModel({ seed: 4 });
  const { model: restored } = await quantize({ model, backend, recipe: [restore()], calibration });
  expect(await logitDifference(backend, model, restored, await calibration.at(0))).toBe(0);
});

it('stands in the basis of the transforms before it, and the error is measured against it', async () => {
  const model = createToyModel({ seed: 4, outliers: 2 });
  const errors: (number | undefined)[][] = [[], [], []];
  const { model: restored } = await quantize({
    model,
    backend,
    recipe: [rotate(), nearest({ bits: 3 }), restore()],
    calibration,
    onEvent: (event: RunEvent) => {
      if (event.type === 'linear-done') errors[event.step].push(event.error);
    },
  });
  expect(await logitDifference(backend, model, restored, await calibration.at(0))).toBeLessThan(1e-4);
  expect(errors[2]).toHaveLength(14);
  expect(errors[2].every((error) => error === 0)).toBe(true);
});

it('is lost when a model is transformed after it was quantized', async () => {
  const touch = defineMethod({
    name: 'test-touch',
    version: 1,
    options: z.strictObject({}),
    transform: (model) => Promise.resolve(model.with({ norm: model.norm })),
  });
  const model = createToyModel({ seed: 4 });
  await expect(quantize({ model, backend, recipe: [nearest(), touch(), restore()], calibration })).rejects.toThrow(
    expect.objectContaining({
      code: 'REFERENCE_LOST',
      message: expect.stringMatching(/model\.layers\.0\.self_attn.*put transforms first/),
    }),
  );
});
