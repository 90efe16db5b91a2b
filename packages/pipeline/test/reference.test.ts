// What a method learns of the full-precision weight behind a quantized one.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { DenseLinear, defineMethod, gram, mul, type RunEvent, read, readFloats } from '@lowbit/core';
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

/** The same for whole blocks. */
const restoreBlocks = defineMethod({
  name: 'test-restore-blocks',
  version: 1,
  options: z.strictObject({}),
  refineBlock: async (block, { reference }) => block.with({ linears: (await reference()).linears }),
});

/** Asks for what the dense block gives. */
const aimAtDense = defineMethod({
  name: 'test-aim-at-dense',
  version: 1,
  options: z.strictObject({}),
  async refineBlock(block, { denseTargets }) {
    await denseTargets();
    return block;
  },
});

/** The same at the end, for the whole model. */
const restoreModel = defineMethod({
  name: 'test-restore-model',
  version: 1,
  options: z.strictObject({}),
  async finetune(model, { referenceBlock }) {
    const blocks = await Promise.all(model.blocks.map(async (block, i) => block.with({ linears: (await referenceBlock(i)).linears })));
    return model.with({ blocks });
  },
});

it.each([restore(), restoreBlocks(), restoreModel()])('is the weight that earlier steps quantized', async (last) => {
  const model = createToyModel({ seed: 4 });
  const { model: restored } = await quantize({ model, backend, recipe: [nearest({ bits: 3 }), last], calibration });
  for (const [i, block] of restored.blocks.entries()) {
    for (const [name, linear] of Object.entries(block.linears)) {
      expect(await read(linear.effectiveWeight()), name).toEqual(await read(model.blocks[i].linears[name].effectiveWeight()));
    }
  }
});

it.each(['quantized', 'dense'] as const)(
  'gives the dense targets, where an earlier step has quantized too and %s outputs are propagated',
  async (propagate) => {
    const model = createToyModel({ seed: 4 });
    const seen: (readonly number[])[] = [];
    const recording = defineMethod({
      name: 'test-recording',
      version: 1,
      options: z.strictObject({}),
      async refineBlock(block, { denseTargets }) {
        seen.push([...(await readFloats(await (await denseTargets()).at(1)))]);
        return block;
      },
    });
    for (const recipe of [[recording()], [nearest({ bits: 2 }), recording()]]) {
      seen.length = 0;
      await quantize({ model, backend, recipe, calibration, propagate });
      let x = model.embedding.forward(await calibration.at(1));
      for (const [i, block] of model.blocks.entries()) {
        [x] = await backend.evaluate([block.forward(x)]);
        expect(seen[i]).toEqual([...(await readFloats(x))]);
      }
      expect(seen).toHaveLength(model.blocks.length);
    }
  },
);

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
  for (const last of [restoreBlocks(), restoreModel()]) {
    const { model: blocks } = await quantize({ model, backend, recipe: [rotate(), nearest({ bits: 3 }), last], calibration });
    expect(await logitDifference(backend, model, blocks, await calibration.at(0))).toBeLessThan(1e-4);
  }
});

/** Trains a model in its way: every weight grows a little. */
const grow = defineMethod({
  name: 'test-grow',
  version: 1,
  options: z.strictObject({}),
  finetune: (model) => Promise.resolve(model.map((tensor) => (tensor.dtype === 'float32' ? mul(tensor, 1.01) : tensor))),
});

it('is the trained weight where training came before anything was quantized, and a transform may follow', async () => {
  const model = createToyModel({ seed: 4, outliers: 2 });
  const { model: grown } = await quantize({ model, backend, recipe: [grow()], calibration });
  const { model: restored } = await quantize({ model, backend, recipe: [grow(), rotate(), nearest({ bits: 3 }), restore()], calibration });
  expect(await logitDifference(backend, grown, restored, await calibration.at(0))).toBeLessThan(1e-4);
});

it('stays the full-precision weight where training came after quantizing', async () => {
  const model = createToyModel({ seed: 4 });
  const { model: restored } = await quantize({ model, backend, recipe: [nearest({ bits: 3 }), grow(), restore()], calibration });
  const [weight] = Object.values(restored.blocks[0].linears);
  const [dense] = Object.values(model.blocks[0].linears);
  expect(await read(weight.effectiveWeight())).toEqual(await read(dense.effectiveWeight()));
});

it.each([
  [restore(), /model\.layers\.0\.self_attn.*put transforms first/],
  [restoreBlocks(), /model\.layers\.0:.*put transforms first/],
  [restoreModel(), /model\.layers\.0:.*put transforms first/],
  [aimAtDense(), /model\.layers\.0:.*put transforms first/],
])('is lost when a model is transformed after it was quantized', async (last, message) => {
  const touch = defineMethod({
    name: 'test-touch',
    version: 1,
    options: z.strictObject({}),
    transform: (model) => Promise.resolve(model.with({ norm: model.norm })),
  });
  const model = createToyModel({ seed: 4 });
  await expect(quantize({ model, backend, recipe: [nearest(), touch(), last], calibration })).rejects.toThrow(
    expect.objectContaining({ code: 'REFERENCE_LOST', message: expect.stringMatching(message) }),
  );
});
