// Stores that have lost something, or hold what another run has left: the same bytes come out.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { defineMethod, type Model, memoryStore, type Recipe, type RunEvent, read, type Store, tensor, tensorsOf } from '@lowbit/core';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { type QuantizeOptions, quantize } from '../src/index.js';
import { adapted } from './methods/adapt.js';
import { testKinds } from './methods/linears.js';
import { refined } from './methods/refine.js';
import { nearest, searched } from './methods/round.js';

const model = createToyModel({ seed: 1, biases: true, blockCount: 3 });
const calibration = createToyTokens({ seed: 2, batchCount: 2, batchSize: 1, tokens: 6 });
const run = (recipe: Recipe, options: Partial<QuantizeOptions> = {}) =>
  quantize({ model, backend: createReferenceBackend(), recipe, calibration, seed: 3, kinds: testKinds, ...options });

async function valuesOf(made: Model): Promise<Record<string, unknown>> {
  const values: Record<string, unknown> = {};
  for (const [name, t] of tensorsOf(made)) values[name] = await read(t);
  return values;
}

/** A store in memory whose keys are known, and that is full from some key on. */
function listed(fullAt?: string): Store & { readonly keys: () => string[] } {
  const store = memoryStore();
  const keys = new Set<string>();
  return {
    ...store,
    keys: () => [...keys],
    async put(key, entry) {
      if (key === fullAt) throw new Error('the disk is full');
      await store.put(key, entry);
      keys.add(key);
    },
    async delete(key) {
      await store.delete(key);
      keys.delete(key);
    },
  };
}

async function copyOf(store: ReturnType<typeof listed>, without?: string): Promise<Store> {
  const copy = memoryStore();
  for (const key of store.keys()) if (key !== without) await copy.put(key, (await store.get(key))!);
  return copy;
}

describe.each(['quantized', 'dense'] as const)('a store that has lost one entry, propagating %s outputs', (propagate) => {
  const recipe = (): Recipe => [
    refined({ bits: 3, steps: 1, target: 'dense', targets: ['**.mlp.*'] }),
    searched({ bits: 3, targets: ['**.self_attn.*'] }),
    adapted({ rank: 1, steps: 1 }),
  ];
  let expected: Record<string, unknown>;
  beforeAll(async () => {
    expected = await valuesOf((await run(recipe(), { propagate })).model);
  });

  it.each([
    ['in its first walk', 'step-0/block/model.layers.2'],
    ['in its finetune', 'step-2/tuned/model'],
  ])('goes on to the same bytes when it was stopped %s, whichever entry that is', async (_where, fullAt) => {
    const held = listed(fullAt);
    const given = { propagate, memory: 0 };
    await expect(run(recipe(), { ...given, store: held })).rejects.toThrow('the disk is full');
    for (const key of held.keys()) {
      const { model: made } = await run(recipe(), { ...given, store: await copyOf(held, key) });
      expect(await valuesOf(made), key).toEqual(expected);
    }
  });

  it('tunes again when a tuned block is gone', async () => {
    const held = listed();
    await run(recipe(), { propagate, store: held });
    for (const key of ['step-2/tuned/model.layers.1', 'step-2/tuned/model']) {
      const { model: made } = await run(recipe(), { propagate, store: await copyOf(held, key) });
      expect(await valuesOf(made), key).toEqual(expected);
    }
  });
});

describe('entries of another run', () => {
  it('are not taken for those of this one where nothing says which run they are of', async () => {
    const expected = await valuesOf((await run([searched({ bits: 4 })])).model);
    const held = listed();
    await run([searched({ bits: 3 })], { store: held });
    const remains = await copyOf(held, 'run');
    const { model: made } = await run([searched({ bits: 4 })], { store: remains });
    expect(await valuesOf(made)).toEqual(expected);
  });

  it('are, when they are of the same', async () => {
    const held = listed();
    await run([searched({ bits: 3 })], { store: held });
    const reused: string[] = [];
    const onEvent = (event: RunEvent): void => {
      if (event.type === 'log' && event.record.reusedFromStore === true) reused.push(event.path);
    };
    await run([searched({ bits: 3 })], { store: await copyOf(held, 'run'), onEvent });
    expect(reused).toEqual(model.blocks.map(({ path }) => path));
  });
});

describe('a run that differs', () => {
  const refusal = async (options: Partial<QuantizeOptions>): Promise<string> => {
    const store = memoryStore();
    await run([nearest()], { store, versions: { '@lowbit/quant': '1.0.0' } });
    const error: unknown = await run([nearest()], { store, versions: { '@lowbit/quant': '1.0.0' }, ...options }).catch((e: unknown) => e);
    expect(error).toMatchObject({ code: 'STORE_RUN' });
    return (error as Error).message;
  };

  it('in how the same tokens are cut is refused', async () => {
    const tokens = async (i: number) => tensor(await read(await calibration.at(i)), [6]);
    const [a, b] = [await read(await tokens(0)), await read(await tokens(1))] as [Int32Array, Int32Array];
    const both = tensor(Int32Array.of(...a, ...b), [2, 6]);
    expect(await refusal({ calibration: { ...calibration, length: 1, at: async () => both } })).toMatch(/batches\.0 was 2 and is 1/);
  });

  it('in the version of a package is refused', async () => {
    expect(await refusal({ versions: { '@lowbit/quant': '1.0.1' } })).toContain('versions.@lowbit/quant was "1.0.0" and is "1.0.1"');
  });
});

it('what was told of the blocks of a step is told again when its finetune is there already', async () => {
  const both = defineMethod({
    name: 'test-both',
    version: 1,
    options: z.strictObject({}),
    async quantizeLinear(linear, { log, warn }) {
      log({ loss: 1 });
      warn('TEST_WARNING', 'said of a Linear');
      return linear;
    },
    async finetune(given, { log }) {
      log({ tuned: true });
      return given;
    },
  });
  const told = async (store: Store): Promise<readonly unknown[]> => {
    const events: RunEvent[] = [];
    await run([both()], { store, onEvent: (event) => void events.push(event) });
    return events.filter(({ type }) => type === 'linear-done' || type === 'warning' || type === 'log');
  };
  const store = memoryStore();
  const first = await told(store);
  const again = (await told(store)).filter((event) => !JSON.stringify(event).includes('reusedFromStore'));
  expect(again).toEqual(JSON.parse(JSON.stringify(first)));
  expect(first).toHaveLength(4 * model.blocks.length * 7 + 2);
});

it('a state that a resumed stage reads and does not write again goes when its block is stored', async () => {
  let isStopped = true;
  const stopping = defineMethod({
    name: 'test-stopping',
    version: 1,
    options: z.strictObject({}),
    async refineBlock(block, { saved, save }) {
      if (!saved) await save({ metadata: { half: true }, tensors: {} });
      if (isStopped) throw new Error('stopped');
      return block;
    },
  });
  const store = listed();
  await expect(run([stopping({ targets: ['**.0.**'] })], { store })).rejects.toThrow('stopped');
  const state = 'step-0/refine-state/model.layers.0';
  expect(store.keys()).toContain(state);
  isStopped = false;
  await run([stopping({ targets: ['**.0.**'] })], { store });
  expect(store.keys()).not.toContain(state);
});
