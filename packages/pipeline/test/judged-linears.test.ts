// What is told of each Linear after stages that work on many at once, and what such a stage is not let near.
import { createReferenceBackend } from '@lowbit/backend-reference';
import {
  type Block,
  DenseLinear,
  defineMethod,
  type Linear,
  type Model,
  type Recipe,
  type RunEvent,
  readFloats,
  type TokenBatches,
  tensor,
} from '@lowbit/core';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { type QuantizeOptions, quantize } from '../src/index.js';
import { adapted } from './methods/adapt.js';
import { refined } from './methods/refine.js';
import { rotate } from './methods/rotate.js';
import { nearest, searched } from './methods/round.js';

const backend = createReferenceBackend();
const model = createToyModel({ seed: 1 });
const calibration = createToyTokens({ seed: 2, batchCount: 6 });
type Done = Extract<RunEvent, { type: 'linear-done' }>;

async function run(recipe: Recipe, options: Partial<QuantizeOptions> = {}): Promise<{ model: Model; done: Done[]; events: RunEvent[] }> {
  const events: RunEvent[] = [];
  const made = await quantize({ model, backend, recipe, calibration, onEvent: (event) => void events.push(event), ...options });
  return { model: made.model, events, done: events.filter((event): event is Done => event.type === 'linear-done') };
}

/** ‖X(Ŵ−W)ᵀ‖² / ‖XWᵀ‖² of one Linear over the first four batches, X what it reads in `made`, as float64 sums. */
async function errorOf(made: Model, dense: Model, index: number, name: string, tokens: TokenBatches = calibration): Promise<number> {
  const weight = async (block: Block): Promise<readonly number[]> => {
    const [w] = await backend.evaluate([block.linears[name].effectiveWeight()]);
    return Array.from(await readFloats(w));
  };
  const [after, before] = [await weight(made.blocks[index]), await weight(dense.blocks[index])];
  const { inFeatures, outFeatures } = dense.blocks[index].linears[name];
  const group = made.blocks[index].groups.find(({ linears }) => linears.includes(name))!;
  let [error, signal] = [0, 0];
  for (let batch = 0; batch < 4; batch++) {
    let x = made.embedding.forward(await tokens.at(batch));
    for (const block of made.blocks.slice(0, index)) x = block.forward(x);
    const [read] = await backend.evaluate([made.blocks[index].trace(x).inputs[group.name]]);
    const values = await readFloats(read);
    for (let row = 0; row < values.length; row += inFeatures) {
      for (let out = 0; out < outFeatures; out++) {
        let [e, s] = [0, 0];
        for (let i = 0; i < inFeatures; i++) {
          e += values[row + i] * (after[out * inFeatures + i] - before[out * inFeatures + i]);
          s += values[row + i] * before[out * inFeatures + i];
        }
        error += e * e;
        signal += s * s;
      }
    }
  }
  return error / signal;
}

describe('linear-done', () => {
  it('comes again after a block is refined, with the error that is left then', async () => {
    const { model: made, done } = await run([refined({ bits: 3, steps: 2, learningRate: 1e-2 })]);
    expect(done).toHaveLength(28);
    for (const [index, name] of [
      [0, 'self_attn.q_proj'],
      [1, 'mlp.down_proj'],
    ] as const) {
      const ofLinear = done.filter(({ path }) => path === `model.layers.${index}.${name}`);
      expect(ofLinear).toHaveLength(2);
      expect(ofLinear[1].error! / (await errorOf(made, model, index, name))).toBeCloseTo(1, 4);
      expect(ofLinear[1].bitsPerWeight).toBe(ofLinear[0].bitsPerWeight);
    }
  });

  it('comes of methods that have no other stage than refineBlock', async () => {
    const halved = defineMethod({
      name: 'test-halved',
      version: 1,
      options: z.strictObject({}),
      async refineBlock(block, { optionsFor }) {
        const half = async (linear: Linear): Promise<Linear> => {
          const values = await readFloats((await backend.evaluate([linear.effectiveWeight()]))[0]);
          return new DenseLinear(
            tensor(
              values.map((w) => w / 2),
              [linear.outFeatures, linear.inFeatures],
            ),
          );
        };
        const names = Object.keys(block.linears).filter((name) => optionsFor(name) !== undefined);
        return block.with({
          linears: Object.fromEntries(await Promise.all(names.map(async (name) => [name, await half(block.linears[name])]))),
        });
      },
    });
    const { done } = await run([halved({ targets: ['**.mlp.*'] })]);
    expect(done.map(({ path }) => path)).toEqual(
      [0, 1].flatMap((block) => ['gate_proj', 'up_proj', 'down_proj'].map((name) => `model.layers.${block}.mlp.${name}`)),
    );
    for (const { error, tokens } of done) {
      expect(error).toBeCloseTo(0.25, 5);
      expect(tokens).toBeUndefined();
    }
  });

  it('comes of a finetune, adapters and all, against the dense model in its basis', async () => {
    const recipe = [rotate(), nearest({ bits: 3 }), adapted({ rank: 1, steps: 2, targets: ['**.1.mlp.*', '**.0.self_attn.q_proj'] })];
    const { model: made, done } = await run(recipe);
    const tuned = done.filter(({ step }) => step === 2);
    expect(tuned.map(({ path }) => path.replace('model.layers.', ''))).toEqual([
      '0.self_attn.q_proj',
      '1.mlp.gate_proj',
      '1.mlp.up_proj',
      '1.mlp.down_proj',
    ]);
    const { model: dense } = await run([rotate()]);
    expect(tuned[3].error! / (await errorOf(made, dense, 1, 'mlp.down_proj'))).toBeCloseTo(1, 4);
    expect(tuned[3].bitsPerWeight).toBeGreaterThan(done.find(({ path }) => path === tuned[3].path)!.bitsPerWeight);
  });

  it('has no error of a finetune without calibration or without a dense model', async () => {
    const idle = defineMethod({ name: 'test-idle', version: 1, options: z.strictObject({}), finetune: async (given) => given });
    const without = await run([nearest({ bits: 4 }), idle()], { calibration: undefined });
    // After it nothing in full precision is in the basis of the model.
    const moved = defineMethod({ name: 'test-moved', version: 1, options: z.strictObject({}), transform: async (given) => given });
    const lost = await run([nearest({ bits: 4 }), moved(), idle()]);
    for (const { done } of [without, lost]) {
      const ofFinetune = done.slice(14);
      expect(ofFinetune).toHaveLength(14);
      expect(ofFinetune.every(({ error }) => error === undefined)).toBe(true);
    }
  });
});

it('a Linear that too few tokens reached stays rounded to nearest: it is left out of the refinement', async () => {
  const seen: string[][] = [];
  const both = defineMethod({
    name: 'test-starved',
    version: 1,
    options: z.strictObject({ bits: z.int().default(3), groupSize: z.int().default(16) }),
    statistics: searched.definition.statistics as never,
    quantizeLinear: (linear, context) => searched.definition.quantizeLinear!(linear, context as never),
    async refineBlock(block, { optionsFor }) {
      seen.push(Object.keys(block.linears).filter((name) => optionsFor(name) !== undefined));
      const zeros = Object.entries(block.linears).map(([name, { inFeatures, outFeatures }]): [string, Linear] => [
        name,
        new DenseLinear(tensor(new Float32Array(inFeatures * outFeatures), [outFeatures, inFeatures])),
      ]);
      return block.with({ linears: Object.fromEntries(zeros) });
    },
  });
  const toNearest = async (original: Linear, _: Linear, path: string): Promise<Linear> =>
    (await nearest.definition.quantizeLinear?.(original, { path, options: { bits: 3, groupSize: 16 } } as never)) as Linear;
  const tokens = createToyTokens({ seed: 2, batchCount: 1, batchSize: 1, tokens: 6 });
  const { model: made, events } = await run([both({ targets: ['**.0.**'] })], { calibration: tokens, nearest: toNearest, minTokens: 7 });
  expect(seen).toEqual([]);
  expect(events.filter((event) => event.type === 'warning' && event.code === 'FEW_TOKENS')).toHaveLength(7);
  expect(made.blocks[0].linears['mlp.up_proj'].kind).toBe('test-affine');
  const enough = await run([both({ targets: ['**.0.**'] })], { calibration: tokens, nearest: toNearest, minTokens: 6 });
  expect(seen).toEqual([Object.keys(model.blocks[0].linears)]);
  expect(enough.model.blocks[0].linears['mlp.up_proj'].kind).toBe('dense');
});
