// Qwen3, GPT-2 and OPT as methods and files see them: groups, gradients, lazy weights, generation, checkpoints under their own names and layout.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createReferenceBackend } from '@lowbit/backend-reference';
import {
  argmax,
  createRng,
  DenseLinear,
  decodeBfloat16,
  encodeBfloat16,
  grad,
  LowbitError,
  type Model,
  mul,
  read,
  readFloats,
  slice,
  sum,
  tensor,
  tensorsOf,
} from '@lowbit/core';
import { openCheckpoint, openSafetensors, saveCheckpoint, storedTensor, writeSafetensors } from '@lowbit/formats';
import { QuantizedLinear, quantizeWeight } from '@lowbit/quant';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { generate, loadModel } from '../src/index.js';
import { gpt2Shapes, optShapes, randomGpt2, randomOpt, smallGpt2, smallOpt } from './layer-norm-checkpoints.js';
import { type MemoryCheckpoint, memoryCheckpoint, randomCheckpoint, smallConfig } from './memory-checkpoint.js';

const backend = createReferenceBackend();
const onnx = await createOnnxBackend({ threads: 1 });
afterAll(() => onnx.dispose());

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lowbit-families-'));
});
afterAll(() => rm(folder, { recursive: true }));

const checkpoints: Record<string, () => MemoryCheckpoint> = {
  'GPT-2': () => randomGpt2(),
  'GPT-2 without a prefix': () => randomGpt2(smallGpt2, ''),
  'GPT-2 with its own head': () => randomGpt2({ ...smallGpt2, tie_word_embeddings: false }),
  OPT: () => randomOpt(),
  'OPT without a prefix': () => randomOpt(smallOpt, 'decoder'),
  Qwen3: () => randomCheckpoint({ ...smallConfig, model_type: 'qwen3', head_dim: 6 }),
};

/** For what reads no elements. */
const emptyWeights = (shapes: ReadonlyMap<string, unknown>): Map<string, Float32Array> =>
  new Map([...shapes.keys()].map((name) => [name, new Float32Array()]));

const tokens = tensor(createRng(3).integers(2 * 7, 37), [2, 7]);

describe.each(Object.keys(checkpoints))('%s', (name) => {
  it('names its tensors as the checkpoint does, and reads none until it is evaluated', async () => {
    const checkpoint = checkpoints[name]();
    const model = await loadModel(checkpoint);
    expect([...tensorsOf(model).keys()].sort()).toEqual([...checkpoint.entries.keys()].sort());
    model.forward(tokens);
    expect(checkpoint.reads).toEqual([]);
  });

  it('lists every Linear in one group, in order of computation, with norms it has', async () => {
    const [block] = (await loadModel(checkpoints[name]())).blocks;
    expect(block.groups.flatMap(({ linears }) => linears).sort()).toEqual(Object.keys(block.linears).sort());
    const x = tensor(createRng(4).normal(2 * 5 * 24), [2, 5, 24]);
    const { inputs, normInputs } = block.trace(x);
    for (const { name: group, linears, reads, writesResidual } of block.groups) {
      for (const linear of linears) expect(inputs[group].shape).toEqual([2, 5, block.linears[linear].inFeatures]);
      expect(writesResidual).toBe(!('norm' in reads));
      if (!('norm' in reads)) continue;
      const [read, given] = await backend.evaluate([block.norms[reads.norm].forward(normInputs[reads.norm]), inputs[group]]);
      expect(await readFloats(read)).toEqual(await readFloats(given));
    }
    const { query, key, value, output, headCount, headDim } = block.attention;
    const written = new Set([query, key, value].map((linear) => block.linears[linear]));
    const features = [...written].reduce((total, { outFeatures }) => total + outFeatures, 0);
    expect(features).toBe((headCount + 2 * block.attention.keyValueHeadCount) * headDim);
    expect(block.linears[output].inFeatures).toBe(headCount * headDim);
  });

  it('is saved as it was, tensor by tensor and byte by byte', async () => {
    const { config, weights, entries } = checkpoints[name]();
    const [source, copy] = ['source', 'copy'].map((part) => join(folder, `${name} ${part}`));
    const stored = [...weights].map(([path, data]) => {
      const rounded = decodeBfloat16(encodeBfloat16(data));
      return storedTensor(path, tensor(rounded, entries.get(path)?.shape), 'BF16');
    });
    await saveCheckpoint(source, await loadModel(checkpoints[name]())); // makes the directory
    await writeSafetensors(join(source, 'model.safetensors'), stored);
    const published = `${JSON.stringify({ ...config, torch_dtype: 'bfloat16' }, null, 2)}\n`;
    await writeFile(join(source, 'config.json'), published);

    await saveCheckpoint(copy, await loadModel(await openCheckpoint(source)));
    expect(await readFile(join(copy, 'config.json'), 'utf8')).toBe(published);
    const [from, to] = await Promise.all([source, copy].map((directory) => openSafetensors(join(directory, 'model.safetensors'))));
    expect([...to.entries.keys()].sort()).toEqual([...from.entries.keys()].sort());
    for (const [path, { shape, dtype }] of from.entries) {
      expect(to.entries.get(path)).toMatchObject({ shape, dtype });
      expect(await read(to.tensor(path)), path).toEqual(await read(from.tensor(path)));
    }
  });

  it('comes back when half of it is quantized, and calls its head and norms by their names', async () => {
    const model = await loadModel(checkpoints[name]());
    const quantized = async (path: string): Promise<QuantizedLinear> => {
      const linear = model.blocks[1].linears[path] as DenseLinear;
      const grid = { bits: 4, symmetric: false, groupSize: 8, clip: 'minmax', scaleDtype: 'float16' } as const;
      return new QuantizedLinear(quantizeWeight(await readFloats(linear.weight), linear.weight.shape, grid), linear.bias);
    };
    const [{ linears: input }, { linears: output }] = model.blocks[1].groups;
    const linears = { [input[0]]: await quantized(input[0]), [output[0]]: await quantized(output[0]) };
    const half = model.withBlock(1, model.blocks[1].with({ linears }));
    const directory = join(folder, `${name} quantized`);
    await saveCheckpoint(directory, half);
    const restored = await loadModel(await openCheckpoint(directory));
    expect(restored.config).toEqual(half.config);
    expect([...tensorsOf(restored).keys()]).toEqual([...tensorsOf(half).keys()]);
    expect(Object.values(restored.blocks[1].linears).filter(({ kind }) => kind === 'affine')).toHaveLength(2);
    const [a, b] = await backend.evaluate([half.forward(tokens), restored.forward(tokens)]);
    expect(await readFloats(b)).toEqual(await readFloats(a));
  });
});

describe.each(['GPT-2', 'OPT', 'Qwen3'])('%s', (name) => {
  it('has gradients of every tensor, positions and biases among them', async () => {
    const model = await loadModel(checkpoints[name]());
    const leaves = await Promise.all([...tensorsOf(model)].map(async ([path, t]) => [path, tensor(await readFloats(t), t.shape)] as const));
    const inMemory = model.map((_, path) => leaves.find(([known]) => known === path)?.[1] ?? expect.fail(path));
    const weight = tensor(createRng(5).normal(2 * 7 * 37), [2, 7, 37]);
    const lossOf = (one: Model) => sum(mul(one.forward(tokens), weight));
    const gradients = await Promise.all(
      grad(
        lossOf(inMemory),
        leaves.map(([, t]) => t),
      ).map((g) => backend.float64(g)),
    );
    for (const [i, [path, t]] of leaves.entries()) {
      const values = await readFloats(t);
      const signs = createRng(6).at(path).integers(t.size, 2);
      const moved = (step: number): Float32Array => values.map((value, k) => value + (signs[k] ? step : -step));
      const [above, below] = [moved(2 ** -9), moved(-(2 ** -9))];
      const at = async (data: Float32Array): Promise<number> => {
        const [loss] = await backend.float64(lossOf(inMemory.map((old, known) => (known === path ? tensor(data, t.shape) : old))));
        return loss;
      };
      const expected = gradients[i].reduce((total, g, k) => total + g * (above[k] - below[k]), 0);
      const size = Math.hypot(...gradients[i]) * Math.hypot(...above.map((value, k) => value - below[k]));
      // A bias of all keys alike moves all scores alike: its gradient is 0.
      expect(Math.abs((await at(above)) - (await at(below)) - expected), path).toBeLessThan(1e-2 * size + 1e-12);
    }
  });

  it('writes the most probable tokens of the full forward pass, beside others of other lengths too', async () => {
    const model = await loadModel(checkpoints[name]());
    const prompts = [Int32Array.of(3, 1, 4, 1, 5), Int32Array.of(9, 2)];
    // A cache of 32 is outgrown.
    const written = await generate(model, onnx, { prompts, maxTokens: 36, together: 2 });
    for (const [i, prompt] of prompts.entries()) {
      const all = tensor(Int32Array.from([...prompt, ...written[i]]), [1, prompt.length + 36]);
      const [best] = await onnx.evaluate([argmax(slice(model.forward(all), 1, prompt.length - 1, prompt.length + 35))]);
      expect([...written[i]]).toEqual([...(await read(best))]);
    }
  });
});

describe('GPT-2', () => {
  it('holds weights as [out, in], and reads a stored one each time it is touched', async () => {
    const checkpoint = randomGpt2();
    const { weight } = (await loadModel(checkpoint)).blocks[0].linears['mlp.c_fc'] as DenseLinear;
    expect(weight.shape).toEqual([96, 24]);
    const stored = checkpoint.weights.get('transformer.h.0.mlp.c_fc.weight') as Float32Array;
    const held = await readFloats(weight);
    for (let o = 0; o < 96; o++) for (let i = 0; i < 24; i++) expect(held[o * 24 + i]).toBe(stored[i * 96 + o]);
    await read(weight);
    expect(checkpoint.reads).toEqual(Array.from({ length: 2 }, () => 'transformer.h.0.mlp.c_fc.weight'));
  });

  it('takes the head for tied where config.json does not say, and says so once it is not', async () => {
    const model = await loadModel(randomGpt2());
    expect(model.config.tiedEmbeddings).toBe(true);
    expect((model.head as DenseLinear).weight).toBe(model.embedding.weight);
    const untied = model.with({ head: new DenseLinear(tensor(await readFloats(model.embedding.weight), [37, 24]), undefined, 32) });
    await saveCheckpoint(join(folder, 'untied'), untied);
    const opened = await openCheckpoint(join(folder, 'untied'));
    expect(opened.config.tie_word_embeddings).toBe(false);
    expect(opened.entries.get('lm_head.weight')?.shape).toEqual([37, 24]);
    expect((await loadModel(opened)).config.tiedEmbeddings).toBe(false);
  });

  it('overlooks masks that old checkpoints hold beside weights', async () => {
    const shapes = gpt2Shapes(smallGpt2, '').set('h.0.attn.bias', [1, 1, 64, 64]).set('h.0.attn.masked_bias', []);
    const model = await loadModel(memoryCheckpoint(smallGpt2, emptyWeights(shapes), shapes));
    expect([...tensorsOf(model).keys()]).not.toContain('h.0.attn.bias');
  });
});

describe('learned positions', () => {
  it.each([
    ['GPT-2', randomGpt2],
    ['OPT', randomOpt],
  ])('%s ends where they end', async (_, checkpoint) => {
    const model = await loadModel(checkpoint());
    expect(model.config.contextLength).toBe(64);
    const embed = (length: number) => model.embedding.forward(tensor(new Int32Array(length), [1, length]));
    expect(embed(64).shape).toEqual([1, 64, 24]);
    expect(() => embed(65)).toThrow(/^POSITION_LIMIT: 65 tokens are more than the 64 positions/);
    await expect(generate(model, backend, { prompts: [new Int32Array(60)], maxTokens: 5 })).rejects.toThrow(/^CONTEXT_LENGTH/);
    const [row] = await generate(model, onnx, { prompts: [new Int32Array(60)], maxTokens: 4 });
    expect(row).toHaveLength(4);
  });
});

describe('refusals', () => {
  const gpt2 = (changed: object): MemoryCheckpoint => ({ ...randomGpt2(), config: { ...smallGpt2, ...changed } });
  const opt = (changed: object): MemoryCheckpoint => ({ ...randomOpt(), config: { ...smallOpt, ...changed } });
  const without = (config: typeof smallGpt2 | typeof smallOpt, shapes: Map<string, readonly number[]>, name: string): MemoryCheckpoint => {
    shapes.delete(name);
    return memoryCheckpoint(config, emptyWeights(shapes), shapes);
  };

  const cases: readonly [code: string, message: RegExp, checkpoint: MemoryCheckpoint][] = [
    ['MODEL_CONFIG', /n_embd: /, gpt2({ n_embd: undefined })],
    ['MODEL_CONFIG', /24 does not divide into 5 attention heads/, gpt2({ n_head: 5 })],
    [
      'MODEL_OPTION',
      /activation_function "swish" is not supported; choose a model with one of relu, gelu, gelu_new/,
      gpt2({ activation_function: 'swish' }),
    ],
    ['MODEL_OPTION', /scale_attn_weights false/, gpt2({ scale_attn_weights: false })],
    ['MODEL_OPTION', /scale_attn_by_inverse_layer_idx true/, gpt2({ scale_attn_by_inverse_layer_idx: true })],
    ['MODEL_OPTION', /add_cross_attention true/, gpt2({ add_cross_attention: true })],
    ['MODEL_CONFIG', /ffn_dim: /, opt({ ffn_dim: 0 })],
    ['MODEL_OPTION', /do_layer_norm_before false .*OPT-350m.*use OPT of another size/, opt({ do_layer_norm_before: false })],
    ['MODEL_OPTION', /word_embed_proj_dim 12 .*hidden_size 24 need projections/, opt({ word_embed_proj_dim: 12 })],
    ['MODEL_OPTION', /layer_norm_elementwise_affine false/, opt({ layer_norm_elementwise_affine: false })],
    ['MODEL_OPTION', /_remove_final_layer_norm true/, opt({ _remove_final_layer_norm: true })],
    [
      'TENSOR_MISSING',
      /transformer\.h\.1\.attn\.c_attn\.bias/,
      without(smallGpt2, gpt2Shapes(smallGpt2), 'transformer.h.1.attn.c_attn.bias'),
    ],
    ['TENSOR_MISSING', /transformer\.wpe\.weight/, without(smallGpt2, gpt2Shapes(smallGpt2), 'transformer.wpe.weight')],
    ['TENSOR_SHAPE', /c_fc\.weight: has shape \[24, 96\] where config\.json says \[24, 48\]/, gpt2({ n_inner: 48 })],
    [
      'TENSOR_SHAPE',
      /embed_positions\.weight: has shape \[66, 24\] where config\.json says \[34, 24\]/,
      opt({ max_position_embeddings: 32 }),
    ],
    [
      'TENSOR_MISSING',
      /layers\.0\.final_layer_norm\.bias/,
      without(smallOpt, optShapes(smallOpt), 'model.decoder.layers.0.final_layer_norm.bias'),
    ],
    [
      'TENSOR_MISSING',
      /self_attn\.q_norm\.weight/,
      { ...randomCheckpoint(smallConfig), config: { ...smallConfig, model_type: 'qwen3', head_dim: 6 } },
    ],
  ];

  it.each(cases)('%s %s', async (code, message, checkpoint) => {
    const error = await loadModel(checkpoint).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(LowbitError);
    expect((error as LowbitError).code).toBe(code);
    expect((error as LowbitError).message).toMatch(message);
  });

  it('takes a head of 128 features for Qwen3 where config.json does not say', async () => {
    const checkpoint = randomCheckpoint({ ...smallConfig, model_type: 'qwen3', head_dim: 128 });
    const { head_dim: _, ...silent } = checkpoint.config;
    expect((await loadModel({ ...checkpoint, config: silent })).config.headDim).toBe(128);
  });
});
