// Finished blocks: stored whole, read back lazily, reused exactly, and the same bytes for the same seed.
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createReferenceBackend } from '@lowbit/backend-reference';
import {
  DenseLinear,
  defineMethod,
  type Model,
  memoryStore,
  type Recipe,
  type RunEvent,
  read,
  readFloats,
  type Step,
  type Store,
  type Tensor,
  tensor,
  tensorsOf,
} from '@lowbit/core';
import { createFileStore } from '@lowbit/formats';
import { createToyModel, createToyTokens, type ToyModelOptions } from '@lowbit/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { type QuantizeOptions, quantize } from '../src/index.js';
import { adapted } from './methods/adapt.js';
import { testKinds } from './methods/linears.js';
import { refined } from './methods/refine.js';
import { rotate } from './methods/rotate.js';
import { nearest, searched } from './methods/round.js';

const model = createToyModel({ seed: 1, biases: true });
const calibration = createToyTokens({ seed: 2, batchCount: 2, batchSize: 1, tokens: 6 });
const mixed = (): Recipe => [
  rotate({ extra: 16 }),
  refined({ bits: 3, steps: 1, targets: ['**.0.**'] }),
  searched({ bits: 3, targets: ['**.1.**'] }),
];
const run = (recipe: Recipe, options: Partial<QuantizeOptions> = {}) =>
  quantize({ model, backend: createReferenceBackend(), recipe, calibration, seed: 3, ...options });

async function bytes(of: Model): Promise<string> {
  const hash = createHash('sha256');
  for (const [name, t] of tensorsOf(of)) {
    const data = await read(t);
    hash.update(`${name}|${t.dtype}|${t.shape}|`).update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return hash.digest('hex');
}

/** A store that tells what is put into it, and can be made to fail. */
function watched(store: Store, failAt?: string): Store & { readonly puts: string[] } {
  const puts: string[] = [];
  return {
    ...store,
    puts,
    async put(key, entry) {
      if (failAt && key.endsWith(failAt)) throw new Error('the disk is full');
      puts.push(key);
      await store.put(key, entry);
    },
  };
}

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lowbit-pipeline-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('determinism', () => {
  it('same seed, same bytes, with or without a store; another seed, other bytes', async () => {
    const expected = await bytes((await run(mixed())).model);
    expect(await bytes((await run(mixed())).model)).toBe(expected);
    expect(await bytes((await run(mixed(), { store: memoryStore() })).model)).toBe(expected);
    expect(await bytes((await run(mixed(), { store: createFileStore(join(folder, 'same')) })).model)).toBe(expected);
    expect(await bytes((await run(mixed(), { seed: 4 })).model)).not.toBe(expected);
  });
});

describe('a file store', () => {
  it('holds each finished block, and the model reads from it', async () => {
    const directory = join(folder, 'blocks');
    const { model: made } = await run(mixed(), { store: createFileStore(directory) });
    const files = await readdir(directory, { recursive: true });
    const entry = (step: number, block: number): string => join(`step-${step}`, 'block', `model.layers.${block}.safetensors`);
    // The rotation rewrites both blocks, and the first step after it evaluates both; the last step passes through one. No activations are left.
    const entries = ['run.safetensors', entry(1, 0), entry(1, 1), entry(2, 0), entry(2, 1)];
    expect(files.filter((file) => file.endsWith('.safetensors')).sort()).toEqual(entries);
    for (const block of made.blocks) {
      for (const [name, t] of tensorsOf(block)) expect(t.source.kind === 'leaf' && t.source.data, name).toBeUndefined();
    }
    expect(made.blocks[0].linears['mlp.up_proj'].kind).toBe('test-affine');
  });

  it('reads one block at a time: a block that is done is not read again by its own step', async () => {
    const loaded: string[] = [];
    const lazy = createToyModel({ seed: 1, onLoad: (name) => loaded.push(name) });
    await run([searched({ bits: 3 })], { model: lazy, store: memoryStore() });
    // Once for the key of the run, once for the work.
    const work = loaded.slice(new Set(loaded).size);
    const order = work.map((name) => /layers\.(\d)/.exec(name)?.[1]).filter((layer) => layer !== undefined);
    expect(order).toEqual([...order].sort());
    expect(work.filter((name) => name.includes('layers'))).toHaveLength(18);
  });
});

describe('reuse', () => {
  const reusedBlocks = (events: readonly RunEvent[]): string[] =>
    events.flatMap((event) => (event.type === 'log' && event.record.reusedFromStore === true ? [`${event.step} ${event.path}`] : []));

  it.each(['quantized', 'dense'] as const)(
    'a run that failed goes on from its finished blocks to the same bytes, propagating %s outputs',
    async (propagate) => {
      const store = createFileStore(join(folder, `failed-${propagate}`));
      const expected = await bytes((await run(mixed(), { propagate })).model);
      await expect(run(mixed(), { propagate, kinds: testKinds, store: watched(store, 'step-2/block/model.layers.1') })).rejects.toThrow(
        'the disk is full',
      );
      const events: RunEvent[] = [];
      const again = watched(store);
      const result = await run(mixed(), { propagate, kinds: testKinds, store: again, onEvent: (event) => void events.push(event) });
      expect(reusedBlocks(events)).toEqual(['1 model.layers.0', '1 model.layers.1', '2 model.layers.0']);
      expect(again.puts).toEqual(['step-2/block/model.layers.1']);
      expect(await bytes(result.model)).toBe(expected);
    },
  );

  it('needs the kinds of the stored Linears', async () => {
    const store = memoryStore();
    await run([nearest()], { store });
    const events: RunEvent[] = [];
    await run([nearest()], { store, onEvent: (event) => void events.push(event) });
    expect(reusedBlocks(events)).toEqual([]);
    await expect(run([nearest()], { store, kinds: {} })).rejects.toMatchObject({ code: 'LINEAR_KIND' });
  });

  it('is refused where anything that decides the weights differs, and the refusal says what', async () => {
    const store = memoryStore();
    const base: ToyModelOptions = { seed: 1, biases: true };
    const calibrated = { kinds: testKinds, store };
    await run([searched({ bits: 3 })], calibrated);
    const puts = watched(store);
    const refusal = async (recipe: Recipe, options: Partial<QuantizeOptions> = {}): Promise<string> => {
      const error: unknown = await run(recipe, { ...calibrated, store: puts, ...options }).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: 'STORE_RUN' });
      return (error as Error).message;
    };
    expect(await refusal([searched({ bits: 3, groupSize: 8 })])).toContain('step 0 options.groupSize was 16 and is 8;');
    expect(await refusal([searched({ bits: 3, targets: ['**', '!**.0.mlp.up_proj'] })])).toContain(
      'step 0 targets.1 was not there and is "!**.0.mlp.up_proj"',
    );
    expect(await refusal([searched({ bits: 3, overrides: { '**.up_proj': { bits: 4 } } })])).toContain('step 0 overrides.0 was not there');
    expect(await refusal([nearest({ bits: 3 })])).toContain('step 0 method was "test-searched" and is "test-nearest"');
    expect(await refusal([searched({ bits: 3 }), nearest({ bits: 3 })])).toContain('step 1 was not there');
    expect(await refusal([searched({ bits: 3 })], { seed: 4 })).toContain('differs: seed was 3 and is 4;');
    expect(await refusal([searched({ bits: 3 })], { propagate: 'dense' })).toContain('propagate was "quantized" and is "dense"');
    const other = { ...createToyTokens({ seed: 9 }), description: 'another text' };
    expect(await refusal([searched({ bits: 3 })], { calibration: other })).toContain(
      `calibration was ${calibration.description} and is another text;`,
    );
    expect(await refusal([searched({ bits: 3 })], { calibration: { ...other, description: calibration.description } })).toContain(
      'with other contents',
    );
    const backend = { ...createReferenceBackend(), fingerprint: 'reference, 2 threads' };
    expect(await refusal([searched({ bits: 3 })], { backend })).toContain('engine was "reference" and is "reference, 2 threads"');
    // The same names and shapes, one weight moved by one unit in the last place.
    const moved = model.blocks[1].map((t, name) => {
      if (name !== 'mlp.up_proj.weight' || t.source.kind !== 'leaf') return t;
      const data = Float32Array.from(t.source.data!);
      data[7] += 2 ** -24;
      return tensor(data, t.shape);
    });
    expect(await refusal([searched({ bits: 3 })], { model: model.withBlock(1, moved) })).toContain(
      'differs: model.layers.1.mlp.up_proj.weight has other elements;',
    );
    expect(puts.puts).toEqual([]);
    const events: RunEvent[] = [];
    await run([searched({ bits: 3 })], { ...calibrated, model: createToyModel(base), onEvent: (event) => void events.push(event) });
    expect(reusedBlocks(events)).toHaveLength(2);
  });

  it('covers steps among the options, and refuses options that have no text', async () => {
    const holding = defineMethod({
      name: 'test-holding',
      version: 1,
      options: z.strictObject({ rest: z.custom<Step>().optional(), from: z.unknown().optional() }),
      quantizeLinear: async (linear) => linear,
    });
    const keyOf = async (...recipe: Recipe): Promise<string | undefined> => (await run(recipe, { store: memoryStore() })).runKey;
    const keys = await Promise.all([
      keyOf(holding()),
      keyOf(holding({ rest: nearest() })),
      keyOf(holding({ rest: nearest({ bits: 3 }) })),
      keyOf(holding({ from: Number.POSITIVE_INFINITY })),
      keyOf(holding({ from: Number.NaN })),
      keyOf(holding({ from: null })),
      keyOf(holding({ from: Float32Array.of(1, 2) })),
    ]);
    expect(new Set(keys).size).toBe(keys.length);
    expect(await keyOf(holding({ from: { a: 1, b: [2, 'x'] } }))).toBe(await keyOf(holding({ from: { b: [2, 'x'], a: 1, c: undefined } })));
    await expect(keyOf(holding({ from: () => 1 }))).rejects.toMatchObject({
      code: 'OPTIONS_NOT_PLAIN',
      message: expect.stringMatching(/step 0 \(test-holding\), options, from: a function/),
    });
    await expect(keyOf(holding({ from: new Map() }))).rejects.toMatchObject({ code: 'OPTIONS_NOT_PLAIN' });
  });
});

describe('memory', () => {
  it('a Linear is read when its turn comes, and once', async () => {
    const loaded: string[] = [];
    const lazy = createToyModel({ seed: 1, onLoad: (name) => loaded.push(name) });
    const before: (readonly string[])[] = [];
    const onEvent = (event: RunEvent): void => {
      // The run has looked at all weights once, for what is not finite.
      if (event.type === 'step-start') loaded.length = 0;
      if (event.type === 'linear-done') before.push([...loaded]);
    };
    await run([searched({ bits: 3 })], { model: lazy, onEvent });
    const linears = (names: readonly string[]): string[] => names.filter((name) => /_proj/.test(name));
    expect(before.map((names) => linears(names).length)).toEqual(before.map((_, i) => i + 1));
    expect(before).toHaveLength(14);
  });

  it.each(['quantized', 'dense'] as const)(
    'activations beyond a limit lie in the store, with the same bytes, propagating %s outputs',
    async (propagate) => {
      const recipe = (): Recipe => [refined({ bits: 3, steps: 1, target: 'dense' })];
      const expected = await bytes((await run(recipe(), { propagate })).model);
      const directory = join(folder, `limited-${propagate}`);
      const store = watched(createFileStore(directory));
      expect(await bytes((await run(recipe(), { propagate, store, memory: 0 })).model)).toBe(expected);
      expect(store.puts).toEqual(expect.arrayContaining(['step-0/activations/inputs-0', 'step-0/activations/targets-1']));
      expect((await readdir(directory, { recursive: true })).filter((name) => name.includes('activations/'))).toEqual([]);
    },
  );

  it('with a limit needs a store', async () => {
    await expect(run([nearest()], { memory: 2 ** 20 })).rejects.toMatchObject({ code: 'MEMORY_STORE' });
  });
});

describe('a finetune that is done', () => {
  /** Trains nothing: halves the norm and doubles the embedding, which is the head as well, and says so. */
  const scaled = (calls: string[]) =>
    defineMethod({
      name: 'test-scaled',
      version: 1,
      options: z.strictObject({}),
      async finetune(given, { log, save }) {
        calls.push('finetune');
        await save({ metadata: { half: true }, tensors: {} });
        log({ file: 'scaled.jsonl', lines: [1, 2] });
        const scale = async (t: Tensor, by: number) =>
          tensor(
            Float32Array.from(await readFloats(t), (x) => by * x),
            t.shape,
          );
        const weight = await scale(given.embedding.weight, 2);
        const norm = given.norm.with({ weight: await scale(given.norm.weight!, 0.5) });
        return given.with({ embedding: given.embedding.map(() => weight), head: new DenseLinear(weight), norm });
      },
    });

  it('is not done again, and what it made and told is there', async () => {
    const tied = createToyModel({ seed: 1, tiedEmbeddings: true });
    const calls: string[] = [];
    const recipe = [nearest({ bits: 4, targets: ['**.1.**'] }), scaled(calls)(), searched({ bits: 3, targets: ['**.0.mlp.up_proj'] })];
    const store = createFileStore(join(folder, 'tuned'));
    const expected = await run(recipe, { model: tied });
    const failing = watched(store, 'step-2/block/model.layers.0');
    await expect(run(recipe, { model: tied, kinds: testKinds, store: failing })).rejects.toThrow('the disk is full');
    expect(await store.get('step-1/finetune-state/model')).toBeUndefined();
    calls.length = 0;
    const logs: unknown[] = [];
    const onEvent = (event: RunEvent): void => {
      if (event.type === 'log' && event.step === 1) logs.push(event.record);
    };
    const { model: resumed } = await run(recipe, { model: tied, kinds: testKinds, store, onEvent });
    expect(calls).toEqual([]);
    expect(logs).toEqual([
      { reusedFromStore: true },
      { file: 'scaled.jsonl', lines: [1, 2] },
      expect.objectContaining({ divergenceAfter: expect.any(Number) as number }),
    ]);
    expect(resumed.head.effectiveWeight()).toBe(resumed.embedding.weight);
    expect(await bytes(resumed)).toBe(await bytes(expected.model));
  });
});

describe('state of stages', () => {
  it('is kept under the stage and handed back to the next run', async () => {
    const saved: unknown[] = [];
    const resuming = defineMethod({
      name: 'test-resuming',
      version: 1,
      options: z.strictObject({}),
      async finetune(given, context) {
        saved.push(context.saved && { metadata: context.saved.metadata, values: await read(context.saved.tensors.values) });
        await context.save({ metadata: { step: 7 }, tensors: { values: tensor([1, 2]) } });
        return given;
      },
    });
    const store = createFileStore(join(folder, 'state'));
    await run([resuming()], { store });
    await run([resuming()], { store });
    await run([resuming()]);
    expect(saved).toEqual([undefined, { metadata: { step: 7 }, values: Float32Array.of(1, 2) }, undefined]);
  });
});

it('a store that loses an entry is told on', async () => {
  const losing: Store = { ...memoryStore(), get: async () => undefined };
  await expect(run([nearest()], { store: losing })).rejects.toMatchObject({
    code: 'STORE_ENTRY',
    message: expect.stringContaining('model.layers.0'),
  });
});

it('wrapped Linears are stored with what they wrap', async () => {
  const store = createFileStore(join(folder, 'wrapped'));
  const { model: given } = await run([nearest({ bits: 3 }), adapted({ rank: 1, steps: 1 })]);
  const passthrough = defineMethod({
    name: 'test-pass',
    version: 1,
    options: z.strictObject({}),
    quantizeLinear: async (linear) => linear,
  });
  const { model: stored } = await run([passthrough()], { model: given, store, kinds: testKinds });
  const { model: reused } = await run([passthrough()], { model: given, store, kinds: testKinds });
  for (const made of [stored, reused]) {
    expect(made.blocks[0].linears['mlp.up_proj'].state().parts?.base.kind).toBe('test-affine');
    expect(await bytes(made)).toBe(await bytes(given));
  }
});
