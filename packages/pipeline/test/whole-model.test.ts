// What a method learns of the other Linears while it works on one.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng, DenseLinear, defineMethod, type Model } from '@lowbit/core';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { expect, it } from 'vitest';
import { z } from 'zod';
import { quantize } from '../src/index.js';
import { isometry, rotateModel } from './methods/rotate.js';
import { nearest } from './methods/round.js';

const backend = createReferenceBackend();
const calibration = createToyTokens({ seed: 2 });

interface Seen {
  readonly path: string;
  readonly model: Model;
  readonly kinds: readonly string[];
  readonly storageBits: number;
  readonly options: Readonly<Record<string, number | undefined>>;
}

const linearsOf = (model: Model) => model.blocks.flatMap(({ linears }) => Object.values(linears));

/** Writes down what it is told, and puts back the dense weight. */
function observer(seen: Seen[]) {
  return defineMethod({
    name: 'test-observe',
    version: 1,
    options: z.strictObject({ mark: z.number().default(1) }),
    async quantizeLinear(_linear, { path, model, optionsFor, reference }) {
      const paths = model.blocks.flatMap((block) => Object.keys(block.linears).map((name) => `${block.path}.${name}`));
      seen.push({
        path,
        model,
        kinds: [...new Set(linearsOf(model).map(({ kind }) => kind))],
        storageBits: linearsOf(model).reduce((bits, linear) => bits + linear.storageBits, 0),
        options: Object.fromEntries(paths.map((other) => [other, optionsFor(other)?.mark])),
      });
      return new DenseLinear((await reference()).effectiveWeight());
    },
  });
}

it('is the whole model as it was when the step began, however many Linears have changed since', async () => {
  const seen: Seen[] = [];
  const model = createToyModel({ seed: 4 });
  const { model: rounded } = await quantize({ model, backend, recipe: [nearest({ bits: 3 })], calibration });
  await quantize({ model, backend, recipe: [nearest({ bits: 3 }), observer(seen)()], calibration });
  expect(seen).toHaveLength(14);
  for (const { kinds, storageBits, model: given } of seen) {
    expect(given).toBe(seen[0].model);
    expect(kinds).toEqual(['test-affine']);
    expect(storageBits).toBe(linearsOf(rounded).reduce((bits, linear) => bits + linear.storageBits, 0));
  }
});

it('comes with the options of every Linear, and none where the step does not target one', async () => {
  const seen: Seen[] = [];
  const step = observer(seen)({ targets: ['**', '!**.k_proj'], overrides: { '**.up_proj': { mark: 2 } } });
  await quantize({ model: createToyModel({ seed: 4 }), backend, recipe: [step], calibration });
  expect(seen.map(({ path }) => path).filter((path) => path.endsWith('k_proj'))).toEqual([]);
  for (const { options } of seen) {
    for (const [path, mark] of Object.entries(options)) {
      expect(mark, path).toBe(path.endsWith('k_proj') ? undefined : path.endsWith('up_proj') ? 2 : 1);
    }
  }
});

it('has the shapes that the own transform of the step has given it', async () => {
  const seen: Seen[] = [];
  const method = observer(seen).definition;
  const widening = defineMethod({
    ...method,
    name: 'test-widen',
    transform: async (model) => rotateModel(model, isometry(createRng(1), 32, 6)),
  });
  await quantize({ model: createToyModel({ seed: 4 }), backend, recipe: [widening()], calibration });
  expect(seen[0].model.blocks[1].linears['mlp.up_proj'].inFeatures).toBe(38);
});
