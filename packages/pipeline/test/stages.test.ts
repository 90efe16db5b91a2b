// What each stage of the method contract makes possible, shown by a small method for each.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createReferenceBackend } from '@lowbit/backend-reference';
import {
  type Backend,
  createRng,
  DenseLinear,
  defineMethod,
  gram,
  klDivergence,
  type Model,
  mean,
  mul,
  type RunEvent,
  read,
  readNumber,
  requireDense,
  type Step,
  slice,
  tensor,
  tensorsOf,
} from '@lowbit/core';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { quantize } from '../src/index.js';
import { adapted } from './methods/adapt.js';
import { AffineLinear } from './methods/linears.js';
import { refined } from './methods/refine.js';
import { isometry, logitDifference, rotate, rotateModel } from './methods/rotate.js';
import { nearest, searched } from './methods/round.js';
import { SplitLinear, splitAll } from './methods/split.js';

const reference = createReferenceBackend();
const calibration = createToyTokens({ seed: 2 });
const heldOut = createToyTokens({ seed: 3 });

describe('transform', () => {
  it.each([
    ['rotates', 0, {}],
    ['widens the stream by 6 channels, as QUAD does', 6, {}],
    ['works with biases and tied embeddings', 3, { biases: true, tiedEmbeddings: true }],
  ])('%s and keeps the logits to 1e-4', async (_what, extra, options) => {
    const model = createToyModel({ seed: 4, outliers: 2, ...options });
    const { model: rotated } = await quantize({ model, backend: reference, recipe: [rotate({ extra })], seed: 5 });
    expect(await logitDifference(reference, model, rotated, await heldOut.at(0))).toBeLessThan(1e-4);
    expect(rotated.blocks[0].linears['self_attn.q_proj'].inFeatures).toBe(32 + extra);
    expect([...tensorsOf(rotated).values()].every((t) => t.isLeaf)).toBe(true);
  });

  it('reads no weight before the turn of its block, and each once', async () => {
    const loaded: string[] = [];
    const model = createToyModel({ onLoad: (name) => loaded.push(name) });
    const rotated = rotateModel(model, isometry(createRng(1), 32, 0));
    expect(rotated.blocks[1].linears['mlp.up_proj'].effectiveWeight().isLeaf).toBe(false);
    expect(loaded).toEqual([]);
    // Before it starts the run has read every weight once, to see whether it is finite.
    const onEvent = (event: RunEvent): void => void (event.type === 'run-start' && loaded.splice(0));
    await quantize({ model, backend: reference, recipe: [rotate()], onEvent });
    const firstOfSecondBlock = loaded.findIndex((name) => name.startsWith('model.layers.1'));
    expect(loaded.slice(firstOfSecondBlock).some((name) => name.startsWith('model.layers.0'))).toBe(false);
    expect(new Set(loaded).size).toBe(loaded.length);
  });

  it('feeds the steps after it', async () => {
    const model = createToyModel({ seed: 4, outliers: 2 });
    const { model: made } = await quantize({ model, backend: reference, recipe: [rotate(), nearest({ bits: 8 })] });
    expect(await logitDifference(reference, model, made, await heldOut.at(0))).toBeLessThan(0.05);
  });
});

describe('quantizeLinear', () => {
  it('can hand a part of its Linear to another step, with that part of the statistic', async () => {
    const model = createToyModel({ seed: 4 });
    const columns = 8;
    // The first inputs stay dense; the step named in the options quantizes the others, as QUAD does with its outlier dimensions.
    const split = defineMethod({
      name: 'test-split',
      version: 1,
      options: z.strictObject({ rest: z.custom<Step>() }),
      statistics: { gram },
      async quantizeLinear(linear, context) {
        const {
          options: { rest },
          backend,
          stats,
          path,
        } = context;
        const { weight } = requireDense(linear, path);
        const width = linear.inFeatures;
        const part = slice(slice(stats['gram'], 0, columns, width), 1, columns, width);
        const [inner, hessian] = await backend.evaluate([slice(weight, 1, columns, width), part]);
        const quantized = await rest.method.quantizeLinear!(new DenseLinear(inner), {
          ...context,
          options: rest.options,
          stats: { hessian },
        });
        const [joined] = await backend.evaluate([quantized.effectiveWeight()]);
        const [head, tail] = [await read(weight), await read(joined)];
        const both = Float32Array.from(head, (w, i) =>
          i % width < columns ? w : tail[Math.floor(i / width) * (width - columns) + (i % width) - columns],
        );
        return linear.withWeight(tensor(both, weight.shape));
      },
    });
    const recipe = [split({ rest: searched({ bits: 3, groupSize: 8 }) })];
    const { model: made } = await quantize({ model, backend: reference, recipe, calibration });
    for (const block of made.blocks) {
      for (const [name, linear] of Object.entries(block.linears)) {
        const [was, is] = [
          await read(requireDense(model.blocks[made.blocks.indexOf(block)].linears[name], name).weight),
          await read(requireDense(linear, name).weight),
        ];
        const kept = was.every((w, i) => (i % linear.inFeatures < columns ? is[i] === w : true));
        expect(kept).toBe(true);
        expect(is).not.toEqual(was);
      }
    }
  });
});

describe('wrapped Linears', () => {
  const model = createToyModel({ seed: 4 });
  const columns = 8;

  it('are unwrapped: methods quantize the part, with its own share of the statistics', async () => {
    const { model: made } = await quantize({
      model,
      backend: reference,
      recipe: [splitAll({ columns }), searched({ bits: 3, groupSize: 8 })],
      calibration,
    });
    for (const [i, block] of made.blocks.entries()) {
      for (const [name, linear] of Object.entries(block.linears)) {
        if (!(linear instanceof SplitLinear)) throw new Error(`${name} lost its wrapper`);
        expect(linear.rest.kind).toBe('test-affine');
        const [kept] = await reference.evaluate([slice(requireDense(model.blocks[i].linears[name], name).weight, 1, 0, columns)]);
        expect(await read(linear.frozen)).toEqual(await read(kept));
      }
    }
    const step = await quantize({ model, backend: reference, recipe: [searched({ bits: 3, groupSize: 8 })], calibration });
    expect(await logitDifference(reference, model, made, await heldOut.at(0))).toBeLessThan(
      await logitDifference(reference, model, step.model, await heldOut.at(0)),
    );
  });

  it('of one group share a restricted statistic, so that methods factor it once', async () => {
    const seen = new Map<string, unknown>();
    const recording = defineMethod({
      name: 'test-recording',
      version: 1,
      options: z.strictObject({}),
      statistics: { gram },
      async quantizeLinear(linear, { path, stats }) {
        seen.set(path, stats.gram);
        return linear;
      },
    });
    await quantize({ model, backend: reference, recipe: [splitAll({ columns }), recording()], calibration });
    const of = (name: string): unknown => seen.get(`model.layers.0.self_attn.${name}`);
    expect(of('q_proj')).toMatchObject({ shape: [24, 24] });
    expect(of('k_proj')).toBe(of('q_proj'));
    expect(of('o_proj')).not.toBe(of('q_proj'));
  });

  it('are checked by the shape of the part', async () => {
    const recipe = [splitAll({ columns: 4 }), nearest({ bits: 4, groupSize: 8 })];
    await expect(quantize({ model, backend: reference, recipe })).rejects.toThrow(/GROUP_SIZE: .*28 inputs do not divide into groups of 8/);
  });
});

describe('training stages', () => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await createOnnxBackend({ threads: 1 });
  });
  afterAll(() => backend.dispose());

  const lossesOf = async (options: { target: 'step' | 'dense' }, propagate: 'quantized' | 'dense'): Promise<number[][]> => {
    const losses: number[][] = [];
    const onEvent = (event: RunEvent): void => {
      if (event.type === 'log' && Array.isArray(event.record.losses)) losses.push(event.record.losses);
    };
    const recipe = [refined({ bits: 2, steps: 6, learningRate: 5e-3, ...options })];
    await quantize({ model: createToyModel({ seed: 4 }), backend, recipe, calibration, propagate, onEvent });
    return losses;
  };

  it.each([
    ['step', 'quantized'],
    ['step', 'dense'],
    ['dense', 'quantized'],
  ] as const)('refineBlock lowers the error of every block towards the %s targets on the %s stream', async (target, propagate) => {
    const losses = await lossesOf({ target }, propagate);
    expect(losses).toHaveLength(2);
    for (const loss of losses) expect(loss.at(-1)).toBeLessThan(0.9 * loss[0]);
  });

  it('dense targets ask more of the second block than its own targets do', async () => {
    const [own, dense] = [await lossesOf({ target: 'step' }, 'quantized'), await lossesOf({ target: 'dense' }, 'quantized')];
    expect(dense[0][0]).toBeCloseTo(own[0][0], 6);
    expect(dense[1][0]).toBeGreaterThan(1.2 * own[1][0]);
  });

  it('refineBlock leaves the codes alone and moves scales and offsets of targeted Linears only', async () => {
    const model = createToyModel({ seed: 4 });
    const targets = ['**.mlp.*'];
    const run = async (steps: number): Promise<Model> =>
      (await quantize({ model, backend, recipe: [refined({ bits: 3, steps, targets })], calibration })).model;
    const [plain, tuned] = [await run(0), await run(2)];
    for (const [i, block] of tuned.blocks.entries()) {
      for (const [name, linear] of Object.entries(block.linears)) {
        const before = plain.blocks[i].linears[name];
        expect(linear.kind).toBe(name.startsWith('mlp') ? 'test-affine' : 'dense');
        if (!(linear instanceof AffineLinear && before instanceof AffineLinear)) continue;
        if (i === 0) expect(await read(linear.parts.codes)).toEqual(await read(before.parts.codes));
        expect(await read(linear.parts.scale)).not.toEqual(await read(before.parts.scale));
      }
    }
  });

  const divergence = async (model: Model, from: Model): Promise<number> => {
    const tokens = await heldOut.at(0);
    const [kl] = await backend.evaluate([mean(klDivergence(from.forward(tokens), model.forward(tokens)))]);
    return readNumber(kl);
  };

  it('finetune lowers the divergence from the reference, and the run records it', async () => {
    const model = createToyModel({ seed: 4 });
    const records: Readonly<Record<string, unknown>>[] = [];
    const onEvent = (event: RunEvent): void => {
      if (event.type === 'log') records.push(event.record);
    };
    const training = createToyTokens({ seed: 2, batchCount: 8 });
    const { model: plain } = await quantize({ model, backend, recipe: [nearest({ bits: 2 })] });
    const recipe = [nearest({ bits: 2 }), adapted({ rank: 4, steps: 40, learningRate: 1e-2 })];
    const result = await quantize({ model, backend, recipe, calibration: training, onEvent });
    expect(await divergence(result.model, model)).toBeLessThan(0.8 * (await divergence(plain, model)));
    const [{ divergenceBefore, divergenceAfter }] = records as { divergenceBefore: number; divergenceAfter: number }[];
    expect(divergenceAfter).toBeLessThan(0.8 * divergenceBefore);
    expect(result.warnings).toEqual([]);
    expect(result.model.blocks[0].linears['mlp.up_proj'].state().parts?.base.kind).toBe('test-affine');
  });

  it('a finetune that makes the model worse is warned of', async () => {
    const model = createToyModel({ seed: 4 });
    const recipe = [nearest({ bits: 4 }), adapted({ steps: 1, learningRate: 1, targets: ['**.down_proj'] })];
    const { warnings, model: made } = await quantize({ model, backend, recipe, calibration });
    expect(warnings).toMatchObject([{ code: 'FINETUNE_DIVERGED', step: 1, message: expect.stringMatching(/from .* to .* nats/) }]);
    expect(made.blocks[0].linears['mlp.up_proj'].kind).toBe('test-affine');
    expect(made.blocks[0].linears['mlp.down_proj'].kind).toBe('test-adapted');
  });

  it.each(['task', 'text', () => 'task' as const] as const)(
    'a finetune for a task or a text may lead away from the reference',
    async (aim) => {
      const model = createToyModel({ seed: 4 });
      const records: Readonly<Record<string, unknown>>[] = [];
      const task = defineMethod({ ...adapted.definition, aim });
      const recipe = [nearest({ bits: 4 }), task({ steps: 1, learningRate: 1, targets: ['**.down_proj'] })];
      const onEvent = (event: RunEvent): void => {
        if (event.type === 'log') records.push(event.record);
      };
      const { warnings } = await quantize({ model, backend, recipe, calibration, onEvent });
      expect(warnings).toEqual([]);
      const { divergenceBefore, divergenceAfter } = records.at(-1) as { divergenceBefore: number; divergenceAfter: number };
      expect(divergenceAfter).toBeGreaterThan(divergenceBefore);
    },
  );

  it('a rise that is rounding is not warned of', async () => {
    const scaled = defineMethod({
      name: 'test-scaled',
      version: 1,
      options: z.strictObject({ factor: z.number() }),
      finetune: async (model, { options }) =>
        model.with({ head: model.head.withWeight(mul(model.head.effectiveWeight(), options.factor)) }),
    });
    const model = createToyModel({ seed: 4 });
    const rises: number[] = [];
    const onEvent = (event: RunEvent): void => {
      if (event.type === 'log') rises.push((event.record['divergenceAfter'] as number) - (event.record['divergenceBefore'] as number));
    };
    for (const factor of [1 + 1e-5, 1 - 1e-5]) {
      const { warnings } = await quantize({ model, backend: reference, recipe: [nearest(), scaled({ factor })], calibration, onEvent });
      expect(warnings).toEqual([]);
    }
    expect(Math.max(...rises)).toBeGreaterThan(0);
  });
});
