// The methods in recipes: the contract, quantizers after them, what is refused, and that directions in full precision help.
import {
  type Backend,
  createRng,
  DenseLinear,
  Embedding,
  type Model,
  Norm,
  quantizablePart,
  type Recipe,
  type RunEvent,
  read,
  readFloats,
  roundToFloat16,
  tensor,
  tensorsOf,
} from '@lowbit/core';
import { gptq } from '@lowbit/gptq';
import { quantize } from '@lowbit/pipeline';
import { ActivationQuantizedLinear, linearKinds, RotatedLinear, SplitLinear } from '@lowbit/quant';
import { rtn } from '@lowbit/rtn';
import { createToyModel, createToyTokens, describeMethod } from '@lowbit/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { activations, type QuadInput, quad, rotate } from '../src/index.js';
import { contextOf, createBackend, smallConfig, smallModel, tokensFor } from './llama.js';

describeMethod(rotate, { quantize, createBackend, kinds: linearKinds });
describeMethod(quad, { quantize, createBackend, options: { rank: 4 }, kinds: linearKinds });
describeMethod(activations, { quantize, createBackend, kinds: linearKinds });

let backend: Backend;
beforeAll(async () => {
  backend = await createBackend();
});
afterAll(() => backend.dispose());

const calibration = createToyTokens({ seed: 11 });
const loud = createToyModel({ seed: 7, outliers: 2, biases: true });
const off = { activationBits: 16, outputActivationBits: 16 } as const;

interface Outcome {
  readonly model: Model;
  readonly warnings: readonly string[];
  readonly records: readonly Readonly<Record<string, unknown>>[];
}

async function run(recipe: Recipe, model: Model = loud, tokens = calibration): Promise<Outcome> {
  const records: Readonly<Record<string, unknown>>[] = [];
  const onEvent = (event: RunEvent): void => void (event.type === 'log' && records.push(event.record));
  const result = await quantize({ model, backend, recipe, calibration: tokens, seed: 1, onEvent });
  return { model: result.model, warnings: result.warnings.map(({ code }) => code), records };
}

async function bytesOf(model: Model): Promise<Map<string, Float32Array>> {
  const found = new Map<string, Float32Array>();
  for (const [name, t] of tensorsOf(model)) found.set(name, (await read(t)) as Float32Array);
  return found;
}

/** Mean square difference of two models' logits over that of the first one's. */
async function logitError(model: Model, other: Model): Promise<number> {
  let [error, energy] = [0, 0];
  const judged = createToyTokens({ seed: 23 });
  for (let i = 0; i < judged.length; i++) {
    const tokens = await judged.at(i);
    const [a, b] = await backend.evaluate([model.forward(tokens), other.forward(tokens)]);
    const [x, y] = [await readFloats(a), await readFloats(b)];
    x.forEach((value, j) => {
      error += (value - y[j]) ** 2;
      energy += value ** 2;
    });
  }
  return error / energy;
}

describe('quad', () => {
  it('at rank 0 gives the bytes of rotate', async () => {
    const [a, b] = [await run([rotate()]), await run([quad({ rank: 0 })])];
    expect(await bytesOf(b.model)).toEqual(await bytesOf(a.model));
  });

  it('puts outlier columns beside what reads the stream, and online rotations in front of what writes to it', async () => {
    const { model } = await run([quad({ rank: 4 })]);
    const [{ linears, norms }] = model.blocks;
    for (const name of ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj', 'mlp.gate_proj', 'mlp.up_proj']) {
      const split = linears[name] as SplitLinear;
      expect(split).toBeInstanceOf(SplitLinear);
      expect([split.rank, split.inFeatures, split.outlierDtype]).toEqual([4, 36, 'float16']);
      expect(split.rest).toMatchObject({ kind: 'activation-quantized', bits: 4, clipRatio: 0.9, inFeatures: 32 });
      expect((await readFloats(split.outlier)).every((value) => roundToFloat16(value) === value)).toBe(true);
    }
    for (const name of ['self_attn.o_proj', 'mlp.down_proj']) {
      const rotated = linears[name] as RotatedLinear;
      expect(rotated).toBeInstanceOf(RotatedLinear);
      expect([rotated.outFeatures, rotated.base.kind]).toEqual([36, 'activation-quantized']);
      expect(rotated.base).toMatchObject({ bits: 8 });
    }
    expect(Object.values(norms).map(({ weight, size }) => [weight, size])).toEqual([
      [undefined, 32],
      [undefined, 32],
    ]);
    expect(model.head).toMatchObject({ inFeatures: 36, bitsPerElement: 16 });
    for (const weight of [model.embedding.weight, (model.head as DenseLinear).weight])
      expect((await readFloats(weight)).every((value) => roundToFloat16(value) === value)).toBe(true);
  });

  it('wraps nothing that is not asked for', async () => {
    const { model } = await run([quad({ ...off, rank: 4, onlineRotation: false, dtype: 'float32' })]);
    const kinds = Object.values(model.blocks[0].linears).map(({ kind }) => kind);
    expect(kinds.sort()).toEqual(['dense', 'dense', 'split', 'split', 'split', 'split', 'split']);
    expect(quantizablePart(model.blocks[0].linears['self_attn.q_proj']).linear).toBeInstanceOf(DenseLinear);
    expect(model.head).toMatchObject({ bitsPerElement: 32 });
  });

  it('computes what the model does when nothing is rounded, whatever the rotations', async () => {
    const choices: QuadInput[] = [
      { layout: 'compact' },
      { rotation: 'random' },
      { rotation: 'none' },
      { fallback: 'random', rank: 3 },
      { gram: 'post' },
      { basis: 'channels' },
      { basis: 'random' },
      { basis: 'bottom' },
      { onlineRotation: false },
    ];
    for (const choice of choices) {
      const { model } = await run([quad({ rank: 4, ...off, dtype: 'float32', ...choice })]);
      expect(await logitError(loud, model), JSON.stringify(choice)).toBeLessThan(1e-9);
    }
  });

  it('rounds what stays in full precision to float16', async () => {
    const { model } = await run([quad({ rank: 4, ...off })]);
    expect(await logitError(loud, model)).toBeLessThan(1e-6);
  });

  it('unties the head, which alone takes the last norm', async () => {
    const tied = createToyModel({ seed: 7, tiedEmbeddings: true });
    const { model } = await run([quad({ rank: 4, ...off, dtype: 'float32' })], tied);
    expect(model.config.tiedEmbeddings).toBe(false);
    expect((model.head as DenseLinear).weight).not.toBe(model.embedding.weight);
    expect(await logitError(tied, model)).toBeLessThan(1e-9);
  });

  it.each([rtn({ bits: 4, groupSize: -1 }), gptq({ bits: 4, groupSize: -1 })])(
    'leaves the outlier columns as they are: $method.name',
    async (after) => {
      const [before, { model }] = [await run([quad({ rank: 4 })]), await run([quad({ rank: 4 }), after])];
      for (const [i, { linears }] of model.blocks.entries()) {
        for (const [name, linear] of Object.entries(linears)) {
          expect(quantizablePart(linear).linear.kind).toBe('affine');
          if (!(linear instanceof SplitLinear)) continue;
          const was = before.model.blocks[i].linears[name] as SplitLinear;
          expect(await readFloats(linear.outlier)).toEqual(await readFloats(was.outlier));
        }
      }
    },
  );

  it.each([rtn({ bits: 4, groupSize: -1 }), gptq({ bits: 4, groupSize: -1 })])(
    'leaves nothing to round in what reads the stream at full rank: $method.name',
    async (after) => {
      const { model } = await run([quad({ rank: 32, dtype: 'float32', outputActivationBits: 16 }), after]);
      const exact = await run([quad({ rank: 32, dtype: 'float32', outputActivationBits: 16 })]);
      const dense = exact.model.blocks.map((block, i) => {
        const outputs = block.groups.flatMap(({ linears, writesResidual }) => (writesResidual ? linears : []));
        return model.blocks[i].with({ linears: Object.fromEntries(outputs.map((name) => [name, block.linears[name]])) });
      });
      expect(await logitError(loud, model.with({ blocks: dense }))).toBeLessThan(1e-9);
    },
  );

  it('tells the share of energy by rank, sizes and rotations', async () => {
    const { records } = await run([quad({ rank: 4, basisWindows: 3 })]);
    const record = records.find((one) => 'energy' in one) as { energy: number[] };
    expect(record).toMatchObject({ rank: 4, width: 32, residualWidth: 36, tokens: 36 });
    expect(record).toMatchObject({ rotations: expect.arrayContaining([{ name: 'residual', size: 32, form: 'hadamard' }]) });
    expect(record.energy).toHaveLength(4);
    expect(record.energy[3]).toBeGreaterThan(0.5);
    const { eigenvectors } = record as unknown as { eigenvectors: { iterations: number; residual: number } };
    expect(eigenvectors.iterations).toBeGreaterThan(0);
    expect(eigenvectors.residual).toBeLessThanOrEqual(1e-4);
  });

  it('says where the directions of most energy have not converged', async () => {
    const noise = createRng(5);
    const noisy: Backend = {
      ...backend,
      evaluate: async (tensors, options) => {
        const leaves = await backend.evaluate(tensors, options);
        const shaken = leaves.map(async (leaf, i) => {
          const draws = noise.at(i).normal(leaf.size);
          return tensor(
            (await readFloats(leaf)).map((x, j) => x * (1 + 1e-3 * draws[j])),
            leaf.shape,
          );
        });
        return (await Promise.all(shaken)) as never;
      },
    };
    const { method, options } = quad({ rank: 4, ...off });
    const said = contextOf(noisy, options);
    await method.transform?.(loud, said);
    expect(said.warnings).toEqual(['BASIS_NOT_CONVERGED']);
  });

  it('says where there is no Hadamard matrix, or refuses', async () => {
    const model = createToyModel({ innerSize: 38, headCount: 4, hiddenSize: 24 });
    const outcome = await run([rotate({ ...off, dtype: 'float32' })], model);
    expect(outcome.warnings).toEqual(['HADAMARD_FALLBACK', 'HADAMARD_FALLBACK']);
    expect(await logitError(model, outcome.model)).toBeLessThan(1e-9);
    await expect(run([rotate({ fallback: 'error' })], model)).rejects.toMatchObject({ code: 'HADAMARD_SIZE' });
    const { method, options } = rotate({ ...off, rotation: 'random' });
    const said = contextOf(backend, options);
    await method.transform?.(model, said);
    // Of the stream a random rotation is what was asked for.
    expect(said.messages).toEqual([
      'no Hadamard matrix of order 6 is known: the features within heads are rotated by a Hadamard matrix for each stretch of a power of two',
      'no Hadamard matrix of order 38 is known: the inputs of the MLP output projection are rotated by a Hadamard matrix for each stretch of a power of two',
    ]);
  });

  it('repeats the published code where asked: mean-free embeddings change the function', async () => {
    const { model } = await run([rotate({ ...off, dtype: 'float32', preset: 'reference' })]);
    expect(await logitError(loud, model)).toBeGreaterThan(1e-4);
    const weight = await readFloats(loud.embedding.weight);
    const centred = Float32Array.from(weight, (value, i) => {
      const row = weight.subarray(i - (i % 32), i - (i % 32) + 32);
      return value - row.reduce((a, b) => a + b, 0) / 32;
    });
    const expected = loud.with({ embedding: loud.embedding.map(() => tensor(centred, [64, 32])) });
    expect(await logitError(expected, model)).toBeLessThan(1e-9);
  });

  it('rounds keys and values where asked', async () => {
    const { model } = await smallModel(smallConfig);
    const recipe = [quad({ rank: 4, ...off, dtype: 'float32', keyValueBits: 8 })];
    const outcome = await run(recipe, model, tokensFor(smallConfig));
    expect(outcome.model.blocks.map(({ keyValues }) => keyValues)).toEqual(
      model.blocks.map(() => ({ bits: 8, clipRatio: 0.95, rotateKeys: true })),
    );
    const exact = await run([quad({ rank: 4, ...off, dtype: 'float32' })], model, tokensFor(smallConfig));
    expect(exact.model.blocks[0].keyValues).toBeUndefined();
  });

  it('reads weights for the basis, the columns and the ends, and makes no other', async () => {
    const reads: string[] = [];
    const { model } = await smallModel(smallConfig, (name) => reads.push(name));
    const { options, method } = quad({ rank: 4, basis: 'random' });
    const made = (await method.transform?.(model, contextOf(backend, options))) as Model;
    expect(reads.filter((name) => name.includes('o_proj') || name.includes('down_proj'))).toEqual([]);
    for (const { linears } of made.blocks) {
      for (const linear of Object.values(linears)) expect(quantizablePart(linear).linear.effectiveWeight().isLeaf).toBe(false);
    }
  });

  it('refuses what it cannot do, before it reads a weight', async () => {
    const code = (wanted: string): unknown => expect.objectContaining({ code: wanted });
    const reads: string[] = [];
    const { model } = await smallModel(smallConfig, (name) => reads.push(name));
    const tokens = tokensFor(smallConfig);
    const refused = (recipe: Recipe, given = model, data = tokens) => expect(run(recipe, given, data)).rejects;
    await refused([rtn({ bits: 4, groupSize: -1 }), quad()]).toEqual(code('LINEAR_NOT_DENSE'));
    await refused([quad({ rank: 33 })]).toEqual(code('RANK'));
    await refused([quad({ rank: 32, layout: 'compact' })]).toEqual(code('RANK'));
    const layerNorm = new Norm('layer', 32, 1e-5, tensor(new Float32Array(32), [32]));
    const foreign = model.withBlock(1, model.blocks[1].with({ norms: { input_layernorm: layerNorm } }));
    await refused([rotate()], foreign).toThrow(/NORM_KIND.*layers\.1\.input_layernorm/);
    await refused([rotate()], model.with({ norm: layerNorm })).toThrow(/NORM_KIND: model\.norm: is a LayerNorm, .* family 'llama'/);
    const learned = new Embedding(model.embedding.weight, { weight: tensor(new Float32Array(64 * 32), [64, 32]), offset: 0 });
    await refused([rotate()], model.with({ embedding: learned })).toEqual(code('MODEL_POSITIONS'));
    const [block] = model.blocks;
    const fused = Object.assign(Object.create(block) as typeof block, { attention: { ...block.attention, value: block.attention.query } });
    await refused([rotate()], model.withBlock(0, fused)).toThrow(/MODEL_ATTENTION: model\.layers\.0\.self_attn\.q_proj: makes queries/);
    expect(() => quad({ rank: -1 })).toThrow(/OPTIONS_INVALID/);
    expect(() => rotate({ rank: 3 } as object)).toThrow(/OPTIONS_INVALID.*rank/);
    expect(reads).toEqual([]);
    // The step looks at its data when it begins; by then all weights have been read once, for NaN.
    await refused([quad({ rank: 4 })], model, { ...tokens, length: 0 }).toEqual(code('CALIBRATION_EMPTY'));
  });

  it('refuses what a step before it has rotated', async () => {
    await expect(run([quad({ rank: 4 }), quad({ rank: 4 })])).rejects.toMatchObject({ code: 'LINEAR_NOT_DENSE' });
    await expect(run([rotate(), rotate()])).rejects.toMatchObject({ code: 'LINEAR_NOT_DENSE' });
  });

  it('names the matrix that float16 cannot hold', async () => {
    const huge = loud.with({ embedding: loud.embedding.map(({ shape }) => tensor(new Float32Array(64 * 32).fill(1e5), shape)) });
    await expect(run([rotate()], huge)).rejects.toThrow(/FLOAT16_RANGE.*embed_tokens/);
  });
});

describe('activations', () => {
  it('rounds the inputs of targets, weights quantized before or after', async () => {
    const four = { bits: 4, clipRatio: 0.9 };
    const weights = rtn({ bits: 4, groupSize: -1 });
    const [first, last] = [await run([activations(), weights]), await run([weights, activations()])];
    expect(await bytesOf(first.model)).toEqual(await bytesOf(last.model));
    expect(first.model.blocks[0].linears['mlp.up_proj']).toBeInstanceOf(ActivationQuantizedLinear);
    const { model } = await run([activations({ targets: ['**.mlp.*'], overrides: { '**.down_proj': { bits: 8 } } })]);
    const { linears } = model.blocks[0];
    expect(linears['mlp.up_proj']).toMatchObject(four);
    expect(linears['mlp.down_proj']).toMatchObject({ bits: 8 });
    expect(linears['self_attn.q_proj']).toBeInstanceOf(DenseLinear);
  });

  it('rounds once', async () => {
    await expect(run([activations(), activations()])).rejects.toMatchObject({ code: 'ACTIVATIONS_ROUNDED' });
    await expect(run([quad({ rank: 4 }), activations()])).rejects.toMatchObject({ code: 'ACTIVATIONS_ROUNDED' });
    const partly = [quad({ rank: 4, activationBits: 16 }), activations({ targets: ['**.q_proj'] })];
    const { model } = await run(partly);
    expect((model.blocks[0].linears['self_attn.q_proj'] as SplitLinear).rest).toMatchObject({ kind: 'activation-quantized' });
  });
});

describe('4 bits for weights and activations, on a model with loud channels', () => {
  it('directions in full precision beat rotations, which beat plain rounding', async () => {
    const weights = rtn({ bits: 4, groupSize: -1 });
    const four = { activationBits: 4, outputActivationBits: 4 } as const;
    const errorOf = async (step: Recipe[number]): Promise<number> => logitError(loud, (await run([step, weights])).model);
    const [plain, rotated, decomposed] = [
      await errorOf(activations()),
      await errorOf(rotate(four)),
      await errorOf(quad({ rank: 4, ...four })),
    ];
    // Measured: 0.0175, 0.0087, 0.0044.
    expect(rotated).toBeLessThan(0.7 * plain);
    expect(decomposed).toBeLessThan(0.7 * rotated);
  });
});
