// Adapters on adapters: the new ones are trained, the lower ones stay, and the start computes what was there bit for bit.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createRng, type Model, type Recipe, readFloats, tensor, tensorsOf } from '@lowbit/core';
import { LowRankLinear } from '@lowbit/quant';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { withParameters } from '@lowbit/train';
import { afterAll, describe, expect, it } from 'vitest';
import { type AdapterOptions, attachAdapters } from '../src/adapters/attach.js';
import { checkpointBits } from '../src/adapters/checkpoint-bits.js';
import { type LrecInput, lowRankCorrection, lrec } from '../src/index.js';
import { rounding } from './rounding.js';
import { linearsOf, logitsOn, toyRun } from './toy-run.js';

const backend = await createOnnxBackend({ threads: 1, spin: false });
afterAll(() => backend.dispose());
const dense = createToyModel({ seed: 12, outliers: 2 });
const calibration = createToyTokens({ seed: 13, batchCount: 4, batchSize: 2, tokens: 10 });
const start = [rounding({ bits: 2, groupSize: 16 }), lowRankCorrection({ form: 'svd', rank: 3, alpha: 6 })];
const quick: LrecInput = { rank: 2, epochs: 4, batchWindows: 2, learningRate: 0.01, holdOut: 0, stack: true };

async function run(recipe: Recipe) {
  const { model, records } = await toyRun({ model: dense, backend, recipe, calibration });
  const log: Readonly<Record<string, unknown>> = records.findLast(({ klAfter }) => klAfter !== undefined) ?? {};
  return { model, log };
}

const logitsOf = async (model: Model): Promise<number[]> => logitsOn(backend, model, await calibration.at(0));

async function tensorOf(model: Model, name: string): Promise<number[]> {
  return [...(await readFloats(tensorsOf(model).get(name)!))];
}

const corrected = (await run(start)).model;
const options: AdapterOptions = { rank: 2, start: 'uniform', adapterDtype: 'float16', stack: true };

describe('attachAdapters with stack', () => {
  it('puts a new adapter on the one that is there, and computes what was there, bit for bit', async () => {
    const { model, parameters, ranks, bits, overhead } = attachAdapters(corrected, () => options, createRng(1));
    expect(await logitsOf(model)).toEqual(await logitsOf(corrected));
    let added = 0;
    for (const [i, [path, linear]] of linearsOf(model).entries()) {
      expect(linear, path).toMatchObject({ rank: 2, scaling: 1, base: { rank: 3, scaling: 2, base: { kind: 'affine' } } });
      expect((linear as LowRankLinear).base).toBe(linearsOf(corrected)[i][1]);
      expect(ranks.get(path)).toBe(2);
      added += 16 * 2 * (linear.inFeatures + linear.outFeatures);
    }
    expect(bits).toBe(added);
    expect(checkpointBits(model)).toBe(checkpointBits(corrected));
    expect(overhead).toBe(added / checkpointBits(corrected));
    expect(parameters.size).toBe(2 * linearsOf(model).length);
  });

  it('names the new factors as the model does, and the lower ones below them', async () => {
    const { model, parameters } = attachAdapters(corrected, () => options, createRng(1));
    const names = tensorsOf(model);
    for (const [path, linear] of linearsOf(model)) {
      const { down, up, base } = linear as LowRankLinear;
      expect([parameters.get(`${path}.down`), parameters.get(`${path}.up`)]).toEqual([down, up]);
      expect([names.get(`${path}.down`), names.get(`${path}.base.down`)]).toEqual([down, (base as LowRankLinear).down]);
    }
    const path = 'model.layers.1.mlp.down_proj';
    const replaced = withParameters(model, new Map([[`${path}.up`, tensor(new Float32Array(2 * 32).fill(1), [32, 2])]]));
    expect(await tensorOf(replaced, `${path}.up`)).toEqual(new Array(64).fill(1));
    expect(await tensorOf(replaced, `${path}.base.up`)).toEqual(await tensorOf(model, `${path}.base.up`));
    expect(await tensorOf(replaced, 'model.layers.0.mlp.down_proj.up')).toEqual(new Array(64).fill(0));
  });

  it('stacks where options say so, and trains on what is there elsewhere', () => {
    const optionsFor = (path: string): AdapterOptions | undefined =>
      path.endsWith('o_proj') ? undefined : { ...options, stack: path.endsWith('up_proj') };
    const { model, ranks } = attachAdapters(corrected, optionsFor, createRng(1));
    for (const [path, linear] of linearsOf(model)) {
      const isStacked = path.endsWith('up_proj');
      expect((linear as LowRankLinear).base.kind, path).toBe(isStacked ? 'low-rank' : 'affine');
      expect(ranks.get(path)).toBe(path.endsWith('o_proj') ? undefined : isStacked ? 2 : 3);
    }
  });

  it('gives the ranks of the overhead, whatever is there already', () => {
    const shared: AdapterOptions = { ...options, rank: undefined, overhead: 0.2 };
    const quantized = corrected.with({
      blocks: corrected.blocks.map((block) =>
        block.with({ linears: Object.fromEntries(Object.entries(block.linears).map(([name, l]) => [name, (l as LowRankLinear).base])) }),
      ),
    });
    const [stacked, fresh] = [corrected, quantized].map((model) => attachAdapters(model, () => shared, createRng(1)));
    expect(stacked.ranks).toEqual(fresh.ranks);
    expect([stacked.bits, stacked.overhead]).toEqual([fresh.bits, fresh.overhead]);
  });
});

describe('lrec with stack', () => {
  it('begins as the model was, and trains the new adapters alone', async () => {
    const { model: untrained, log: first } = await run([...start, lrec({ ...quick, learningRate: 1e-30, keepBest: false })]);
    expect(await logitsOf(untrained)).toEqual(await logitsOf(corrected));
    const { model, log } = await run([...start, lrec({ ...quick, dropout: 0.1 })]);
    expect(log['klBefore']).toBe(first['klBefore']);
    expect(log['klAfter']).toBeLessThan(0.95 * (log['klBefore'] as number));
    for (const [i, [path, linear]] of linearsOf(model).entries()) {
      const { base, up } = linear as LowRankLinear;
      const before = linearsOf(corrected)[i][1] as LowRankLinear;
      for (const factor of ['down', 'up'] as const)
        expect(await readFloats((base as LowRankLinear)[factor]), path).toEqual(await readFloats(before[factor]));
      expect((await readFloats(up)).some((value) => value !== 0)).toBe(true);
    }
  });

  it('leaves out new adapters that have gained nothing, and keeps those beneath them', async () => {
    const wild: LrecInput = { ...quick, epochs: 1, learningRate: 3, schedule: 'constant', clipNorm: 0 };
    const { model, log } = await run([...start, lrec({ ...wild, rank: 3 })]);
    expect(log).toMatchObject({ keptRound: 0, adapterBits: 0, ranks: [] });
    expect(linearsOf(model).every(([, linear]) => linear instanceof LowRankLinear && linear.base.kind === 'affine')).toBe(true);
    expect(await logitsOf(model)).toEqual(await logitsOf(corrected));
  });

  it('is off by default', async () => {
    const { stack: _, ...rest } = quick;
    const { model } = await run([...start, lrec({ ...rest, epochs: 1 })]);
    expect(linearsOf(model).every(([, linear]) => linear instanceof LowRankLinear && linear.base.kind === 'affine')).toBe(true);
  });
});
