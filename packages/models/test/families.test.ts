// Exact forward: every family's logits against an independent float64 forward, on both backends; decoding against the full pass.

import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createReferenceBackend } from '@lowbit/backend-reference';
import { type Backend, createRng, type Model, materialize, readFloats, slice, type Tensor, tensor } from '@lowbit/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CacheBuffers } from '../src/cached-attention.js';
import { loadModel } from '../src/index.js';
import { type IndependentConfig, independentLogits } from './independent-forward.js';
import { gpt2Logits, optLogits } from './independent-layer-norm-forward.js';
import { randomGpt2, randomOpt, type SmallGpt2, type SmallOpt, smallGpt2, smallOpt } from './layer-norm-checkpoints.js';
import { type MemoryCheckpoint, randomCheckpoint, type SmallConfig, smallConfig } from './memory-checkpoint.js';

const qkv = ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'];
const llama3Scaling = { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 16 };

/** A model, and what it answers to one sequence: [tokens][vocabulary]. */
interface Case {
  readonly checkpoint: MemoryCheckpoint;
  readonly expected: (tokens: Int32Array) => Float64Array[];
}

const llamas: Record<string, { config: SmallConfig; biased?: readonly string[] }> = {
  'Llama, multi-head': { config: { ...smallConfig, num_key_value_heads: 4 } },
  'Llama, grouped heads': { config: smallConfig },
  'Llama, one key-value head': { config: { ...smallConfig, num_key_value_heads: 1 } },
  'Llama, tied embeddings': { config: { ...smallConfig, tie_word_embeddings: true } },
  'Llama, explicit head_dim': { config: { ...smallConfig, head_dim: 10 } },
  'Llama 3.1, llama3 rope scaling': { config: { ...smallConfig, head_dim: 16, rope_theta: 500000, rope_scaling: llama3Scaling } },
  'Llama, linear rope scaling': { config: { ...smallConfig, rope_scaling: { type: 'linear', factor: 4 } } },
  'Llama, dynamic rope scaling within its context': { config: { ...smallConfig, rope_scaling: { type: 'dynamic', factor: 2 } } },
  'Llama, attention and mlp biases': {
    config: { ...smallConfig, attention_bias: true, mlp_bias: true },
    biased: [...qkv, 'self_attn.o_proj', 'mlp.gate_proj', 'mlp.up_proj', 'mlp.down_proj'],
  },
  'Mistral, window no shorter than the sequence': { config: { ...smallConfig, model_type: 'mistral', sliding_window: 12 } },
  'Qwen2, q/k/v biases': {
    config: { ...smallConfig, model_type: 'qwen2', rms_norm_eps: 1e-6, rope_theta: 1000000, use_sliding_window: false, sliding_window: 4 },
    biased: qkv,
  },
  'Qwen3, norms of queries and keys, explicit head_dim, tied embeddings': {
    config: { ...smallConfig, model_type: 'qwen3', rms_norm_eps: 1e-6, rope_theta: 1000000, head_dim: 10, tie_word_embeddings: true },
  },
  'Qwen3, attention biases': {
    config: { ...smallConfig, model_type: 'qwen3', head_dim: 6, attention_bias: true },
    biased: [...qkv, 'self_attn.o_proj'],
  },
};

function gpt2Case(config: SmallGpt2, root = 'transformer.'): Case {
  const checkpoint = randomGpt2(config, root);
  const { n_embd: width, n_layer: blocks, n_head: heads, activation_function: activation, layer_norm_epsilon: epsilon } = config;
  const head = config.tie_word_embeddings === false ? 'lm_head' : `${root}wte`;
  const sizes = { width, blocks, heads, head, root, activation, epsilon };
  return { checkpoint, expected: (tokens) => gpt2Logits(checkpoint.weights, sizes, tokens) };
}

function optCase(config: SmallOpt, root = 'model.decoder'): Case {
  const checkpoint = randomOpt(config, root);
  const { hidden_size: width, num_hidden_layers: blocks, num_attention_heads: heads, activation_function: activation } = config;
  const head = config.tie_word_embeddings === false ? 'lm_head' : `${root}.embed_tokens`;
  return { checkpoint, expected: (tokens) => optLogits(checkpoint.weights, { width, blocks, heads, head, root, activation }, tokens) };
}

const cases: Record<string, Case> = {
  ...Object.fromEntries(
    Object.entries(llamas).map(([name, { config, biased = [] }]) => {
      const checkpoint = randomCheckpoint(config, { biased });
      return [name, { checkpoint, expected: (tokens) => independentLogits(config as IndependentConfig, checkpoint.weights, tokens) }];
    }),
  ),
  'GPT-2': gpt2Case(smallGpt2),
  'GPT-2, names without a prefix': gpt2Case(smallGpt2, ''),
  'GPT-2, its own head, inner width and activation, an odd head size': gpt2Case({
    ...smallGpt2,
    n_embd: 20,
    tie_word_embeddings: false,
    n_inner: 28,
    activation_function: 'gelu',
    layer_norm_epsilon: 1e-3,
  }),
  OPT: optCase(smallOpt),
  'OPT, names without a prefix': optCase(smallOpt, 'decoder'),
  'OPT, as Galactica: GELU, no biases, its own head': optCase({
    ...smallOpt,
    activation_function: 'gelu',
    enable_bias: false,
    tie_word_embeddings: false,
  }),
};

/** Largest difference, over the largest magnitude expected. */
function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let difference = 0;
  let scale = 0;
  for (let i = 0; i < expected.length; i++) {
    difference = Math.max(difference, Math.abs(actual[i] - expected[i]));
    scale = Math.max(scale, Math.abs(expected[i]));
  }
  return difference / scale;
}

const TOKENS = 12;

function randomTokens(name: string): Int32Array {
  return createRng(7)
    .at(name)
    .integers(2 * TOKENS, smallConfig.vocab_size);
}

/** Logits of every position by prefilling `start` tokens and decoding the rest one by one. */
async function decodedLogits(model: Model, backend: Backend, tokens: Int32Array, batch: number, start: number): Promise<Float32Array[]> {
  const length = tokens.length / batch;
  const columns = (from: number, to: number): Tensor =>
    tensor(
      Int32Array.from({ length: batch * (to - from) }, (_, i) => tokens[Math.floor(i / (to - from)) * length + from + (i % (to - from))]),
      [batch, to - from],
    );
  let x = model.embedding.forward(columns(0, start));
  const caches: CacheBuffers[] = [];
  for (const block of model.blocks) {
    const [output, keys, values] = await backend.evaluate(Object.values(block.prefill(x)) as [Tensor, Tensor, Tensor]);
    const [, heads, , headDim] = keys.shape;
    const cache = new CacheBuffers(batch, heads, 2, headDim); // small, so that it has to grow
    await cache.write(0, keys, values);
    caches.push(cache);
    x = output;
  }
  const logits: Float32Array[] = [];
  for (let position = start; position < length; position++) {
    const at = tensor(Int32Array.of(position), []);
    let y = model.embedding.forward(columns(position, position + 1), at);
    const steps = model.blocks.map((block, i) => {
      const step = block.decode(y, caches[i].leaves(), at);
      y = step.output;
      return step;
    });
    const [row, ...stored] = await backend.evaluate([model.logits(y), ...steps.flatMap(({ keys, values }) => [keys, values])]);
    for (const [i, cache] of caches.entries()) await cache.write(position, stored[2 * i], stored[2 * i + 1]);
    logits.push(await readFloats(row));
  }
  return logits;
}

const backends: Record<string, () => Promise<Backend>> = {
  reference: async () => createReferenceBackend(),
  'ONNX Runtime': () => createOnnxBackend({ threads: 1 }),
};

describe.each(Object.keys(backends))('on %s', (backendName) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await backends[backendName]();
  });
  afterAll(() => backend.dispose());

  it.each(Object.keys(cases))('%s: logits and decoding equal the independent forward', async (name) => {
    const { checkpoint, expected: answers } = cases[name];
    const model = await materialize(await loadModel(checkpoint));
    const tokens = randomTokens(name);
    const [logits] = await backend.evaluate([model.forward(tensor(tokens, [2, TOKENS]))]);
    const actual = await readFloats(logits);
    const expected = [0, 1].map((i) => answers(tokens.subarray(i * TOKENS, (i + 1) * TOKENS)));
    const flat = expected.flat().flatMap((row) => [...row]);
    expect(relativeError(actual, flat)).toBeLessThan(1e-5); // 1e-4 is promised; 1e-6 measured

    const start = 5;
    const decoded = await decodedLogits(model, backend, tokens, 2, start);
    decoded.forEach((row, i) => {
      const both = [...expected[0][start + i], ...expected[1][start + i]];
      expect(relativeError(row, both)).toBeLessThan(1e-5);
    });
  });
});

it('shares one compiled program among the blocks of a model', async () => {
  const backend = await createOnnxBackend({ threads: 1 });
  const model = await loadModel(randomCheckpoint({ ...smallConfig, num_hidden_layers: 4 }));
  let x = tensor(createRng(1).normal(2 * 6 * smallConfig.hidden_size), [2, 6, smallConfig.hidden_size]);
  for (const block of model.blocks) [x] = await backend.evaluate([block.forward(x)]);
  expect(backend.statistics.compilations).toBe(1);
  await backend.dispose();
});

it('computes a longer sequence than one attention chunk', async () => {
  const config = { ...smallConfig, num_hidden_layers: 1 };
  const checkpoint = randomCheckpoint(config);
  const backend = await createOnnxBackend({ threads: 1 });
  const model = await loadModel(checkpoint);
  const tokens = createRng(3).integers(150, config.vocab_size);
  const [logits] = await backend.evaluate([slice(model.forward(tensor(tokens, [1, 150])), 1, 149, 150)]);
  const expected = independentLogits(config, checkpoint.weights, tokens)[149];
  expect(relativeError(await readFloats(logits), expected)).toBeLessThan(1e-5);
  await backend.dispose();
});
