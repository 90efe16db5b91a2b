// Adapters in Linears that quantize their input: inside of it, where closed forms put them, trained there and merged there.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createRng, type Model, type Recipe, readFloats, tensor, tensorsOf } from '@lowbit/core';
import { ActivationQuantizedLinear, type LowRankLinear } from '@lowbit/quant';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { withParameters } from '@lowbit/train';
import { afterAll, describe, expect, it } from 'vitest';
import { type AdapterOptions, attachAdapters } from '../src/adapters/attach.js';
import { type LrecInput, lowRankCorrection, lrec, mergeAdapters } from '../src/index.js';
import { withDropout } from '../src/lrec/dropout.js';
import { rounding } from './rounding.js';
import { linearsOf, logitsOn, toyRun } from './toy-run.js';

const backend = await createOnnxBackend({ threads: 1, spin: false });
afterAll(() => backend.dispose());
const plain = createToyModel({ seed: 12, outliers: 2 });
const dense = plain.with({
  blocks: plain.blocks.map((block) =>
    block.with({
      linears: Object.fromEntries(
        Object.entries(block.linears).map(([name, linear]) => [name, new ActivationQuantizedLinear(linear, { bits: 8 })]),
      ),
    }),
  ),
});
const calibration = createToyTokens({ seed: 13, batchCount: 4, batchSize: 2, tokens: 10 });
const base = rounding({ bits: 2, groupSize: 16 });
const start = [base, lowRankCorrection({ form: 'svd', rank: 3, alpha: 6 })];
const quick: LrecInput = { epochs: 4, batchWindows: 2, learningRate: 0.01, holdOut: 0 };
const options: AdapterOptions = { rank: 2, start: 'uniform', adapterDtype: 'float16', stack: false };

async function run(recipe: Recipe) {
  const { warnings, ...made } = await toyRun({ model: dense, backend, recipe, calibration });
  return { ...made, warnings: warnings.map(({ code }) => code) };
}

const logitsOf = async (model: Model): Promise<number[]> => logitsOn(backend, model, await calibration.at(0));

const corrected = (await run(start)).model;
const affine = { kind: 'affine' };

describe('attachAdapters behind quantized activations', () => {
  it('trains on the adapter inside, by the names that its factors have in the model', async () => {
    const { model, parameters, ranks, dtypes } = attachAdapters(corrected, () => options, createRng(1));
    const names = tensorsOf(model);
    expect(parameters.size).toBe(2 * linearsOf(model).length);
    expect([...dtypes.keys()]).toEqual([...parameters.keys()]);
    for (const [name, t] of parameters) expect(names.get(name), name).toBe(t);
    for (const [path, linear] of linearsOf(model)) {
      expect(linear, path).toMatchObject({ kind: 'activation-quantized', base: { rank: 3, scaling: 2, base: affine } });
      expect([parameters.has(`${path}.base.down`), parameters.has(`${path}.base.up`), ranks.get(path)]).toEqual([true, true, 3]);
    }
    const name = 'model.layers.1.mlp.down_proj.base.up';
    const replaced = tensorsOf(withParameters(model, new Map([[name, tensor(new Float32Array(3 * 32).fill(1), [32, 3])]])));
    expect([...(await readFloats(replaced.get(name)!))]).toEqual(new Array(96).fill(1));
  });

  it('puts new adapters inside too, on codes and on adapters', async () => {
    const { model: quantized } = await run([base]);
    for (const [given, stack, below] of [
      [quantized, false, affine],
      [corrected, true, { rank: 3, base: affine }],
    ] as const) {
      const { model, parameters, bits } = attachAdapters(given, () => ({ ...options, stack }), createRng(1));
      expect(await logitsOf(model)).toEqual(await logitsOf(given));
      let added = 0;
      for (const [i, [path, linear]] of linearsOf(model).entries()) {
        expect(linear, path).toMatchObject({ kind: 'activation-quantized', bits: 8, base: { rank: 2, base: below } });
        expect(tensorsOf(model).get(`${path}.base.up`)).toBe(parameters.get(`${path}.base.up`));
        added += linear.storageBits - linearsOf(given)[i][1].storageBits;
      }
      expect(bits).toBe(added);
    }
  });

  it('drops inputs of the adapter inside alone', async () => {
    const { model } = attachAdapters(corrected, () => options, createRng(1));
    const masked = withDropout(model, [2, 10], () => 0.5, createRng(2));
    for (const [path, linear] of linearsOf(masked))
      expect(linear, path).toMatchObject({ kind: 'activation-quantized', base: { kind: 'masked-low-rank', share: 0.5 } });
    expect(await logitsOf(masked)).not.toEqual(await logitsOf(model));
  });
});

describe('a recipe behind quantized activations', () => {
  it('trains the adapter of a closed form, and merges it', async () => {
    const trained = await run([...start, lrec({ ...quick, dropout: 0.1 })]);
    const [before, after] = ['klBefore', 'klAfter'].map((key) => trained.records.find((record) => key in record)?.[key] as number);
    expect(after).toBeLessThan(0.95 * before);
    for (const [i, [path, linear]] of linearsOf(trained.model).entries()) {
      expect(linear, path).toMatchObject({ kind: 'activation-quantized', base: { rank: 3, scaling: 2, base: affine } });
      const [now, was] = [linear, linearsOf(corrected)[i][1]].map((one) => (one as ActivationQuantizedLinear).base as LowRankLinear);
      expect(await readFloats(now.up), path).not.toEqual(await readFloats(was.up));
    }
    const merged = await run([...start, lrec(quick), mergeAdapters()]);
    expect(merged.warnings).toEqual([]);
    expect(merged.records).toContainEqual({ merged: 14, kept: 0, requantized: 0 });
    for (const [path, linear] of linearsOf(merged.model)) expect(linear, path).toMatchObject({ bits: 8, base: { kind: 'dense' } });
  });
});
