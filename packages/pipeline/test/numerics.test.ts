// Planted faults: weights and activations that are not finite, Linears that few tokens reach, Gram matrices without full rank.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createReferenceBackend } from '@lowbit/backend-reference';
import { type Linear, type Model, memoryStore, type RunEvent, readFloats, type TokenBatches, tensor } from '@lowbit/core';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { afterAll, describe, expect, it } from 'vitest';
import { type QuantizeOptions, quantize } from '../src/index.js';
import { refined } from './methods/refine.js';
import { nearest, searched } from './methods/round.js';

const backend = createReferenceBackend();
const calibration = createToyTokens({ seed: 2 });

/** A token that few positions hold; all others are embedded as zeros, so that the first block's attention reads nothing of them. */
const RARE = 7;

async function rareModel(): Promise<Model> {
  const model = createToyModel({ seed: 1 });
  const { weight } = model.embedding;
  const values = (await readFloats(weight)).map((value, i) => (Math.floor(i / 32) === RARE ? value : 0));
  return model.map((t) => (t === weight ? tensor(values, weight.shape) : t));
}

/** The calibration with `count` positions of the rare token, and never that token elsewhere. */
function rareTokens(count: number): TokenBatches {
  return {
    ...calibration,
    async at(index) {
      const ids = Int32Array.from({ length: 24 }, (_, i) => (index === 0 && i < count ? RARE : (i % 5) + 20));
      return tensor(ids, [2, 12]);
    },
  };
}

const attention = ['q_proj', 'k_proj', 'v_proj'].map((name) => `model.layers.0.self_attn.${name}`);

async function run(options: Partial<QuantizeOptions> & Pick<QuantizeOptions, 'model'>) {
  const events: RunEvent[] = [];
  const result = await quantize({
    backend,
    calibration,
    recipe: [searched({ bits: 3 })],
    onEvent: (event) => void events.push(event),
    ...options,
  });
  const done = new Map(events.flatMap((event) => (event.type === 'linear-done' ? [[event.path, event] as const] : [])));
  return { ...result, events, done };
}

/** Rounds as `test-nearest` does, whatever the method made. */
const toNearest = async (original: Linear, _: Linear, path: string): Promise<Linear> =>
  nearest.definition.quantizeLinear?.(original, { path, options: { bits: 3, groupSize: 16 } } as never) as Promise<Linear>;

const weightOf = async (model: Model, name: string): Promise<number[]> => {
  const [weight] = await backend.evaluate([model.blocks[0].linears[name].effectiveWeight()]);
  return Array.from(await readFloats(weight));
};

describe('a Linear that few tokens reach', () => {
  it('is rounded to nearest with a warning, and the others are not', async () => {
    const given = { model: await rareModel(), calibration: rareTokens(3), nearest: toNearest, minTokens: 4 };
    const { model, warnings, done } = await run(given);
    const starved = warnings.filter(({ code }) => code === 'FEW_TOKENS');
    expect(starved.map(({ path }) => path)).toEqual(attention);
    expect(starved[0].message).toMatch(/^3 calibration tokens reach it, fewer than 4; it is rounded to nearest; /);
    for (const path of attention) expect(done.get(path)).toMatchObject({ tokens: 3 });
    expect(done.get(attention[0])?.error).toBe(done.get(attention[0])?.nearestError);
    // Attention carries it to all positions of its window; the other windows are zeros throughout.
    expect(done.get('model.layers.1.mlp.down_proj')).toMatchObject({ tokens: 12 });
    const rounded = await quantize({ backend, model: given.model, recipe: [nearest({ bits: 3 })] });
    expect(await weightOf(model, 'self_attn.q_proj')).toEqual(await weightOf(rounded.model, 'self_attn.q_proj'));
    expect(await weightOf(model, 'mlp.up_proj')).not.toEqual(await weightOf(rounded.model, 'mlp.up_proj'));
  });

  it('stays as the method made it where nobody can round it', async () => {
    const given = { model: await rareModel(), calibration: rareTokens(3) };
    const { model, warnings } = await run({ ...given, minTokens: 4 });
    expect(warnings.filter(({ code }) => code === 'FEW_TOKENS')[0].message).toContain('stays as test-searched made it');
    const free = await run({ ...given, minTokens: 0 });
    expect(free.warnings.filter(({ code }) => code === 'FEW_TOKENS')).toEqual([]);
    expect(await weightOf(model, 'self_attn.q_proj')).toEqual(await weightOf(free.model, 'self_attn.q_proj'));
  });

  it('has 0.5 % of the tokens for its floor by default', async () => {
    const model = await rareModel();
    // 72 tokens: one is enough, none is not.
    const paths = async (count: number): Promise<string[]> =>
      (await run({ model, calibration: rareTokens(count), nearest: toNearest })).warnings.flatMap(({ code, path }) =>
        code === 'FEW_TOKENS' ? [path] : [],
      );
    expect(await paths(1)).toEqual([]);
    expect((await paths(0)).slice(0, 3)).toEqual(attention);
  });
});

it('warns of a Gram matrix of fewer tokens than inputs, and says of how many', async () => {
  const few = createToyTokens({ seed: 2, batchCount: 1, batchSize: 1, tokens: 12 });
  const { warnings, done } = await run({ model: createToyModel({ seed: 1 }), calibration: few });
  expect(warnings.filter(({ code }) => code === 'GRAM_SINGULAR')).toHaveLength(14);
  expect(warnings[0].message).toMatch(/^12 calibration tokens for 32 inputs leave their Gram matrix singular/);
  expect(done.get(attention[0])).toMatchObject({ tokens: 12, nearestError: undefined });
  const { warnings: none, done: all } = await run({ model: createToyModel({ seed: 1 }) });
  expect(none).toEqual([]);
  expect(all.get(attention[0])).toMatchObject({ tokens: 72 });
});

describe('what is not finite', () => {
  const broken = async (value: number): Promise<Model> => {
    const model = createToyModel({ seed: 1 });
    const { weight } = model.blocks[1].linears['mlp.down_proj'] as unknown as { weight: Parameters<typeof readFloats>[0] };
    const values = (await readFloats(weight)).slice();
    values[3 * 48 + 17] = value;
    return model.map((t) => (t === weight ? tensor(values, weight.shape) : t));
  };

  it.each([Number.NaN, Number.NEGATIVE_INFINITY])(
    'a weight of %s is named before the run starts, with a store and without',
    async (value) => {
      const model = await broken(value);
      for (const store of [undefined, memoryStore()]) {
        const events: RunEvent[] = [];
        const running = quantize({ model, backend, calibration, recipe: [searched()], store, onEvent: (event) => void events.push(event) });
        await expect(running).rejects.toMatchObject({
          code: 'WEIGHT_NOT_FINITE',
          message: expect.stringContaining(`model.layers.1.mlp.down_proj.weight: element [3, 17] is ${value};`),
        });
        expect(events).toEqual([]);
      }
    },
  );

  const engine = createOnnxBackend();
  afterAll(async () => (await engine).dispose());

  it('activations that overflow are named by the Linear that reads them, or by the block that gives them', async () => {
    const model = createToyModel({ seed: 1 });
    const loud = [model.blocks[0].linears['mlp.gate_proj'], model.blocks[0].linears['mlp.up_proj']].map((one) => one.effectiveWeight());
    const scaled = new Map(await Promise.all(loud.map(async (t) => [t, (await readFloats(t)).map((w) => w * 1e25)] as const)));
    const overflowing = model.map((t) => {
      const values = scaled.get(t);
      return values ? tensor(values, t.shape) : t;
    });
    const refining = run({ model: overflowing, backend: await engine, recipe: [refined({ bits: 3, steps: 1, target: 'dense' })] });
    await expect(refining).rejects.toMatchObject({
      code: 'NOT_FINITE',
      message: expect.stringContaining('model.layers.0: its output holds NaN or Infinity in batch 1 of 3'),
    });
    const recipe = [searched({ bits: 3, targets: ['**.down_proj'] })];
    await expect(run({ model: overflowing, backend: await engine, recipe })).rejects.toMatchObject({
      code: 'NOT_FINITE',
      message: expect.stringContaining('model.layers.0.mlp.down_proj: its input holds NaN or Infinity in batch 1 of 3'),
    });
  });
});
