// The runner itself: order, statistics, streams, errors of Linears, warnings.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createReferenceBackend } from '@lowbit/backend-reference';
import {
  absmax,
  type Backend,
  type Block,
  batchesOf,
  createRng,
  defineMethod,
  type Embedding,
  flattenRows,
  gram,
  type Linear,
  type MethodContext,
  type Model,
  matmul,
  type Recipe,
  type RunEvent,
  read,
  readFloats,
  type Statistic,
  type Tensor,
  tensor,
  tensorsOf,
} from '@lowbit/core';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { type QuantizeOptions, quantize } from '../src/index.js';
import { relativeOutputErrors } from '../src/output-error.js';
import { nearest, searched } from './methods/round.js';

const model = createToyModel({ seed: 1 });
const calibration = createToyTokens({ seed: 2 });
let backend: ReturnType<typeof createReferenceBackend>;
beforeEach(() => {
  backend = createReferenceBackend();
});
const run = (recipe: Recipe, options: Partial<QuantizeOptions> = {}) => quantize({ model, backend, recipe, calibration, ...options });

/** A method that only looks: what it was given, by path. */
function spy(statistics: Readonly<Record<string, Statistic>> = { gram }) {
  const seen = new Map<string, { stats: Readonly<Record<string, Tensor>>; rows: number; draw: number }>();
  const method = defineMethod({
    name: 'test-spy',
    version: 1,
    options: z.strictObject({ bits: z.int().default(3) }),
    statistics,
    async quantizeLinear(linear, context) {
      seen.set(context.path, { stats: context.stats, rows: context.rows, draw: context.rng.uniform(1)[0] });
      return roundedBy(linear, context);
    },
  });
  return { seen, method };
}

function roundedBy(linear: Linear, context: MethodContext<{ bits: number }> & { path: string }): Promise<Linear> {
  return nearest.definition.quantizeLinear!(linear, {
    ...context,
    options: { bits: context.options.bits, groupSize: 16 },
    stats: {},
    rows: 0,
    reference: () => Promise.resolve(linear),
    model,
    optionsFor: () => undefined,
  });
}

/** XᵀX in float64 of what a group reads when the stream has come through `blocks`. */
async function gramOf(blocks: readonly Block[], group: string): Promise<{ gram: Float64Array; rows: number }> {
  const embedding: Embedding = model.embedding;
  const grams: Tensor[] = [];
  let rows = 0;
  for (let i = 0; i < calibration.length; i++) {
    let x = embedding.forward(await calibration.at(i));
    for (const block of blocks.slice(0, -1)) x = block.forward(x);
    const read = flattenRows(blocks.at(-1)!.trace(x).inputs[group]);
    rows += read.shape[0];
    grams.push(matmul(read, read, { transposeA: true }));
  }
  const parts = await Promise.all(grams.map((g) => backend.float64(g)));
  return { gram: parts[0].map((_, j) => parts.reduce((total, part) => total + part[j], 0)), rows };
}

async function expectClose(actual: Tensor, expected: Float64Array): Promise<void> {
  const values = await read(actual);
  expect(values.length).toBe(expected.length);
  const peak = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  for (let i = 0; i < expected.length; i++) expect(Math.abs(values[i] - expected[i])).toBeLessThan(1e-5 * peak);
}

describe('statistics', () => {
  it('are those of the quantized model so far: earlier blocks and earlier groups of the same block', async () => {
    const { seen, method } = spy();
    const { model: made } = await run([method()]);
    const [first, second] = made.blocks;
    // In the first block: MLP inputs as they are when attention is quantized and the MLP is not.
    const attention = Object.fromEntries(Object.entries(first.linears).filter(([name]) => name.startsWith('self_attn')));
    const expected = await gramOf([model.blocks[0].with({ linears: attention })], 'mlp');
    await expectClose(seen.get('model.layers.0.mlp.up_proj')!.stats['gram'], expected.gram);
    expect(seen.get('model.layers.0.mlp.up_proj')!.rows).toBe(expected.rows);
    await expectClose(
      seen.get('model.layers.1.self_attn.q_proj')!.stats['gram'],
      (await gramOf([first, model.blocks[1]], 'attention')).gram,
    );
    await expectClose(seen.get('model.layers.1.mlp.down_proj')!.stats['gram'], (await gramOf([first, second], 'mlp-output')).gram);
  });

  it('are those of the dense stream where that is asked for', async () => {
    const { seen, method } = spy();
    const { model: made } = await run([method()], { propagate: 'dense' });
    await expectClose(seen.get('model.layers.1.self_attn.q_proj')!.stats['gram'], (await gramOf(model.blocks, 'attention')).gram);
    const attention = Object.fromEntries(Object.entries(made.blocks[1].linears).filter(([name]) => name.startsWith('self_attn')));
    const mixed = [model.blocks[0], model.blocks[1].with({ linears: attention })];
    await expectClose(seen.get('model.layers.1.mlp.up_proj')!.stats['gram'], (await gramOf(mixed, 'mlp')).gram);
  });

  it('are shared by the Linears of a group', async () => {
    const { seen, method } = spy({ gram, peak: absmax });
    await run([method()]);
    const [q, v, o] = ['q', 'v', 'o'].map((name) => seen.get(`model.layers.0.self_attn.${name}_proj`)!.stats);
    expect(q['gram']).toBe(v['gram']);
    expect(q['peak'].shape).toEqual([32]);
    expect(q['gram']).not.toBe(o['gram']);
  });

  it('may depend on options, which may differ between Linears', async () => {
    const folded: string[] = [];
    const method = defineMethod({
      name: 'test-choosy',
      version: 1,
      options: z.strictObject({ fold: z.enum(['gram', 'absmax', 'none']) }),
      statistics: ({ fold }): Readonly<Record<string, Statistic>> => (fold === 'gram' ? { gram } : fold === 'absmax' ? { absmax } : {}),
      async quantizeLinear(linear, { path, stats }) {
        folded.push(`${path.split('.').at(-1)}: ${Object.keys(stats)}`);
        return linear;
      },
    });
    await run([
      method({
        fold: 'none',
        targets: ['model.layers.0.self_attn.*'],
        overrides: { '**.k_proj': { fold: 'gram' }, '**.v_proj': { fold: 'absmax' } },
      }),
    ]);
    expect(folded).toEqual(['q_proj: ', 'k_proj: gram', 'v_proj: absmax', 'o_proj: ']);
  });

  it('are not folded, and no forward pass is made, for a method that reads none', async () => {
    await run([nearest()], { calibration: undefined });
    expect(backend.statistics.evaluations).toBe(0);
  });

  it('cost forward passes up to the last block that needs them', async () => {
    const evaluations = async (targets: string[]): Promise<number> => {
      const fresh = createReferenceBackend();
      await quantize({ model, backend: fresh, recipe: [spy().method({ targets })], calibration });
      return fresh.statistics.evaluations;
    };
    // Embedding and one fold on each of three batches, and the signal and the error of the Linear; for the second block one forward pass more.
    expect(await evaluations(['model.layers.0.self_attn.o_proj'])).toBe(3 + 3 + 2);
    expect(await evaluations(['model.layers.1.self_attn.o_proj'])).toBe(3 + 3 + 3 + 2);
  });
});

describe('linear-done', () => {
  it('carries ‖X(Ŵ−W)ᵀ‖² / ‖XWᵀ‖², bits and time', async () => {
    const events: RunEvent[] = [];
    const { model: made } = await run([searched({ bits: 3 })], { onEvent: (event) => void events.push(event) });
    const done = events.filter((event) => event.type === 'linear-done');
    expect(done).toHaveLength(14);
    const event = done.find(({ path }) => path === 'model.layers.0.mlp.up_proj')!;
    const attention = Object.fromEntries(Object.entries(made.blocks[0].linears).filter(([name]) => name.startsWith('self_attn')));
    const { gram: g } = await gramOf([model.blocks[0].with({ linears: attention })], 'mlp');
    const [was, is] = await Promise.all([model, made].map((m) => backend.float64(m.blocks[0].linears['mlp.up_proj'].effectiveWeight())));
    const energy = (w: Float64Array): number => {
      let total = 0;
      for (let row = 0; row < w.length; row += 32)
        for (let i = 0; i < 32; i++) for (let j = 0; j < 32; j++) total += w[row + i] * g[i * 32 + j] * w[row + j];
      return total;
    };
    expect(event.error).toBeCloseTo(energy(is.map((w, i) => w - was[i])) / energy(was), 6);
    expect(event.bitsPerWeight).toBe(3 + 32 / 16);
    expect(event.milliseconds).toBeGreaterThanOrEqual(0);
  });

  it('has no error without a Gram matrix', async () => {
    const events: RunEvent[] = [];
    await run([nearest({ targets: ['**.0.mlp.up_proj'] })], { onEvent: (event) => void events.push(event) });
    expect(events.find((event) => event.type === 'linear-done')).toMatchObject({ error: undefined });
  });

  it('is 0 for a Linear whose inputs never fire', async () => {
    const [linear] = [model.blocks[0].linears['mlp.up_proj']];
    expect(await relativeOutputErrors(backend, linear, [linear], tensor(new Float32Array(32 * 32), [32, 32]))).toEqual([0]);
  });

  it('is 1, no better than zeros, where a layer of zeros became something else', async () => {
    const zeros = model.blocks[0].linears['mlp.up_proj'].withWeight(tensor(new Float32Array(48 * 32), [48, 32]));
    const noise = zeros.withWeight(tensor(new Float32Array(48 * 32).fill(1e-3), [48, 32]));
    const { gram } = await gramOf([model.blocks[0]], 'mlp');
    expect(await relativeOutputErrors(backend, zeros, [zeros, noise], tensor(Float32Array.from(gram), [32, 32]))).toEqual([0, 1]);
  });
});

describe('warnings', () => {
  const zeroing = (factor: number) =>
    defineMethod({
      name: 'test-scaled',
      version: 1,
      options: z.strictObject({}),
      statistics: { gram },
      async quantizeLinear(linear) {
        const weight = await readFloats(linear.effectiveWeight());
        return linear.withWeight(
          tensor(
            weight.map((w) => w * factor),
            [linear.outFeatures, linear.inFeatures],
          ),
        );
      },
    });
  const only = { targets: ['model.layers.0.mlp.up_proj'] };

  it('tell of an error that zeros would not exceed', async () => {
    expect((await run([zeroing(0)(only)])).warnings).toMatchObject([{ code: 'ERROR_ABOVE_ONE', path: 'model.layers.0.mlp.up_proj' }]);
    expect((await run([zeroing(0.5)(only)])).warnings).toEqual([]);
  });

  it('tell of a method that is not below rounding to nearest', async () => {
    const rounded = async (original: Linear): Promise<Linear> =>
      original.withWeight(
        tensor(
          (await readFloats(original.effectiveWeight())).map((w) => w * 0.75),
          [48, 32],
        ),
      );
    expect((await run([zeroing(0.5)(only)], { nearest: rounded })).warnings).toMatchObject([
      { code: 'NOT_BELOW_NEAREST', message: 'relative output error 0.250 is not below round-to-nearest’s 0.0625'.replace('’', "'") },
    ]);
    expect((await run([zeroing(0.9)(only)], { nearest: rounded })).warnings).toEqual([]);
    expect((await run([zeroing(0.5)(only)], { nearest: () => undefined })).warnings).toEqual([]);
  });

  it('NaN in the new weights is an error', async () => {
    await expect(run([zeroing(Number.NaN)(only)])).rejects.toMatchObject({
      code: 'NOT_FINITE',
      message: expect.stringContaining('model.layers.0.mlp.up_proj'),
    });
  });
});

describe('inputs', () => {
  it('missing calibration data is an error where it is needed', async () => {
    await expect(run([searched()], { calibration: undefined })).rejects.toMatchObject({
      code: 'CALIBRATION_EMPTY',
      message: expect.stringContaining('test-searched'),
    });
    await expect(run([searched()], { calibration: { ...calibration, ...batchesOf([]) } })).rejects.toMatchObject({
      code: 'CALIBRATION_EMPTY',
    });
    const curious = defineMethod({
      name: 'test-curious',
      version: 1,
      options: z.strictObject({}),
      async transform(given, context) {
        await context.calibration.at(0);
        return given;
      },
    });
    await expect(run([curious()], { calibration: undefined })).rejects.toMatchObject({ code: 'CALIBRATION_EMPTY' });
  });

  it.each([-1, 0.5, 2 ** 53, Number.NaN])('seed %d is refused', async (seed) => {
    await expect(run([nearest()], { seed })).rejects.toMatchObject({ code: 'SEED' });
  });

  it('draws are addressed by step, path and stage, and move with the seed', async () => {
    const draws = async (seed: number): Promise<Map<string, number>> => {
      const { seen, method } = spy({});
      await run([nearest({ targets: ['**.0.self_attn.q_proj'] }), method({ targets: ['!**.0.self_attn.q_proj'] })], { seed });
      return new Map([...seen].map(([path, { draw }]) => [path, draw]));
    };
    const first = await draws(1);
    expect(new Set(first.values()).size).toBe(13);
    expect(await draws(1)).toEqual(first);
    expect([...(await draws(2)).values()]).not.toEqual([...first.values()]);
    const path = 'model.layers.1.mlp.up_proj';
    expect(first.get(path)).toBe(createRng(1).at('step', 1, path, 'quantize').uniform(1)[0]);
  });
});

describe('bits per weight', () => {
  it('counts what the whole model stores for each of its weights', async () => {
    const result = await run([nearest({ bits: 3, targets: ['**.up_proj', '**.gate_proj'] })]);
    const weights = (m: Model): number =>
      m.blocks.flatMap((b) => Object.values(b.linears)).reduce((total, l) => total + l.inFeatures * l.outFeatures, 0);
    const quantized = 4 * 32 * 48;
    expect(result.bitsPerWeight).toBeCloseTo((quantized * 5 + (weights(model) - quantized) * 16) / weights(model), 10);
  });
});

it('gives the stages a backend that stands for the one it was handed', async () => {
  let given: Backend | undefined;
  const look = defineMethod({
    name: 'test-look',
    version: 1,
    options: z.strictObject({}),
    async transform(m, context) {
      given = context.backend;
      return m;
    },
  });
  await run([look()]);
  expect(given).toMatchObject({ name: 'reference', statistics: backend.statistics });
});

describe('on the default backend', () => {
  it('gives the errors of the oracle, and the same bytes twice', async () => {
    const errors = async (on: Backend): Promise<{ made: Model; errors: number[] }> => {
      const found: number[] = [];
      const onEvent = (event: RunEvent): void => {
        if (event.type === 'linear-done') found.push(event.error ?? Number.NaN);
      };
      const { model: made } = await quantize({ model, backend: on, recipe: [searched({ bits: 4 })], calibration, onEvent });
      return { made, errors: found };
    };
    const engine = await createOnnxBackend({ threads: 1 });
    const [oracle, first, second] = [await errors(backend), await errors(engine), await errors(engine)];
    expect(first.errors).toHaveLength(14);
    for (const [i, error] of first.errors.entries()) expect(Math.abs(error - oracle.errors[i])).toBeLessThan(0.02 * oracle.errors[i]);
    for (const [name, t] of tensorsOf(first.made)) expect(await read(t), name).toEqual(await read(tensorsOf(second.made).get(name)!));
    await engine.dispose();
  });
});
