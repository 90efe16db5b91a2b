// Function preservation: transformed models against the given ones, in float64 by an oracle of its own and in float32 on the engine.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { type Backend, concat, type Model, quantizablePart, read, readFloats, type Tensor, type TypedArray } from '@lowbit/core';
import { SplitLinear } from '@lowbit/quant';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Basis, chooseBasis, type QuadInput, type QuadOptions, quad, quadOptions } from '../src/index.js';
import { contextOf, createBackend, type SmallConfig, smallConfig, smallModel, tokensFor } from './llama.js';
import {
  forward,
  identity,
  isometryMatrix,
  largestDifference,
  type Matrix,
  multiply,
  type Network,
  originalNetwork,
  transformedNetwork,
  transposed,
} from './oracle.js';

let backend: Backend;
beforeAll(async () => {
  backend = await createBackend();
});
afterAll(() => backend.dispose());

const exact = { activationBits: 16, outputActivationBits: 16, dtype: 'float32' } as const;

async function transform(
  model: Model,
  input: QuadInput,
  config: SmallConfig,
  { engine = backend, seed = 3 } = {},
): Promise<{ model: Model; basis: Basis; options: QuadOptions }> {
  const options = quadOptions.parse({ ...exact, ...input });
  const calibration = tokensFor(config);
  const { method } = quad(options);
  const context = contextOf(engine, options, { calibration, seed });
  const transformed = (await method.transform?.(model, context)) as Model;
  return { model: transformed, options, basis: await chooseBasis(model, options, context) };
}

async function logitsOf(model: Model, tokens: Tensor): Promise<Matrix> {
  const [logits] = await backend.evaluate([model.forward(tokens)]);
  const columns = logits.shape[2];
  return { rows: logits.size / columns, columns, values: Float64Array.from(await readFloats(logits)) };
}

/** Relative to the largest logit. */
function relativeDifference(a: Matrix, b: Matrix): number {
  return largestDifference(a, b) / a.values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
}

const configs: Record<string, SmallConfig> = {
  'Llama, multi-head, d 24 = 8·3': { ...smallConfig, hidden_size: 24, num_key_value_heads: 4 },
  'Llama, grouped heads': smallConfig,
  'Llama, one key-value head, tied embeddings': { ...smallConfig, num_key_value_heads: 1, tie_word_embeddings: true },
  'Llama, explicit head_dim 10, all biases': { ...smallConfig, head_dim: 10, attention_bias: true, mlp_bias: true },
  'Mistral, 3 heads of 12, FFN 44': {
    ...smallConfig,
    model_type: 'mistral',
    hidden_size: 36,
    intermediate_size: 44,
    num_attention_heads: 3,
    num_key_value_heads: 3,
  },
  'Qwen2, 14 heads, tied embeddings': {
    ...smallConfig,
    model_type: 'qwen2',
    hidden_size: 28,
    intermediate_size: 38,
    num_attention_heads: 14,
    num_key_value_heads: 2,
    head_dim: 4,
    rms_norm_eps: 1e-6,
    tie_word_embeddings: true,
  },
};

describe.each(Object.keys(configs))('%s', (name) => {
  const config = configs[name];
  const half = config.hidden_size / 2;
  let model: Model;
  let original: Network;
  let tokens: Tensor;
  let sequence: TypedArray;
  let expected: Matrix;
  beforeAll(async () => {
    const small = await smallModel(config);
    model = small.model;
    original = originalNetwork(config, small.weights);
    tokens = await tokensFor(config, { seed: 5 }).at(0);
    sequence = (await read(tokens)).subarray(0, 10);
    expected = await logitsOf(model, tokens);
  });

  const cases: QuadInput[] = [
    ...[0, 1, 8, half, config.hidden_size].map((rank): QuadInput => ({ rank })),
    ...[1, 8, half, config.hidden_size - 1].map((rank): QuadInput => ({ rank, layout: 'compact' })),
  ];

  it.each(cases)('%j', async (input) => {
    const { model: made, basis } = await transform(model, input, config);
    const transformed = transformedNetwork(original, basis);
    expect(relativeDifference(forward(original, sequence), forward(transformed, sequence))).toBeLessThan(1e-10); // 6e-15 measured

    expect(relativeDifference(expected, await logitsOf(made, tokens))).toBeLessThan(1e-4); // 2e-6 measured
    for (const block of made.blocks) {
      for (const [linear, weight] of Object.entries(await evaluatedWeights(block.linears))) {
        const wanted = transformed.weights.get(`${block.path}.${linear}.weight`) as Matrix;
        expect(largestDifference(weight, wanted), `${block.path}.${linear}`).toBeLessThan(3e-6); // 3e-7 measured
      }
    }

    const t = isometryMatrix(basis);
    expect(largestDifference(multiply(t, transposed(t)), identity(config.hidden_size))).toBeLessThan(1e-12);
  });
});

/** Any geometry: few heads, sizes with and without a Hadamard matrix, and as many directions as there may be. */
const geometries = fc
  .record({
    model_type: fc.constantFrom('llama', 'mistral', 'qwen2'),
    keyValueHeads: fc.integer({ min: 1, max: 3 }),
    ratio: fc.integer({ min: 1, max: 4 }),
    halfHead: fc.integer({ min: 1, max: 6 }),
    width: fc.integer({ min: 2, max: 24 }),
    inner: fc.integer({ min: 1, max: 24 }),
    attention_bias: fc.boolean(),
    mlp_bias: fc.boolean(),
    tie_word_embeddings: fc.boolean(),
  })
  .map(({ keyValueHeads, ratio, halfHead, width, inner, ...rest }): SmallConfig => {
    const heads = { num_attention_heads: ratio * keyValueHeads, num_key_value_heads: keyValueHeads, head_dim: 2 * halfHead };
    return { ...smallConfig, ...rest, ...heads, vocab_size: 13, hidden_size: width, intermediate_size: inner, num_hidden_layers: 1 };
  });

describe('any model of the family', () => {
  it('computes what it did, whatever its sizes, the rank, the layout, the fallback and the seed', async () => {
    const engine = createReferenceBackend();
    const choices = fc.record({
      layout: fc.constantFrom('expand' as const, 'compact' as const),
      fallback: fc.constantFrom('block-diagonal' as const, 'random' as const),
      share: fc.double({ min: 0, max: 1, noNaN: true }),
      seed: fc.nat(1000),
    });
    const property = fc.asyncProperty(geometries, choices, async (config, { share, seed, ...choice }) => {
      const most = choice.layout === 'compact' ? config.hidden_size - 1 : config.hidden_size;
      const { model, weights } = await smallModel(config);
      const { model: made, basis } = await transform(model, { ...choice, rank: Math.round(share * most) }, config, { engine, seed });
      const tokens = await tokensFor(config, { seed, batchSize: 1, tokens: 5 }).at(0);
      const original = originalNetwork(config, weights);
      const sequence = await read(tokens);
      const before = forward(original, sequence);
      // Drawn matrices are orthogonal to float32; Hadamard matrices and directions to float64.
      const bound = choice.fallback === 'random' ? 1e-5 : 1e-10;
      expect(relativeDifference(before, forward(transformedNetwork(original, basis), sequence))).toBeLessThan(bound);
      const logits = { ...before, values: await engine.float64(made.forward(tokens)) };
      expect(relativeDifference(before, logits)).toBeLessThan(1e-4);
    });
    await fc.assert(property, { numRuns: 12 });
  });
});

/** The base weights of a block, outlier columns first, without what is rotated while the model runs. */
async function evaluatedWeights(linears: Model['blocks'][number]['linears']): Promise<Record<string, Matrix>> {
  const whole = Object.values(linears).map((linear) => {
    const inner = quantizablePart(linear).linear.effectiveWeight();
    return linear instanceof SplitLinear ? concat([linear.outlier, inner], 1) : inner;
  });
  const leaves = await backend.evaluate(whole);
  const matrices = leaves.map(async (leaf): Promise<Matrix> => {
    const [rows, columns] = leaf.shape;
    return { rows, columns, values: Float64Array.from(await readFloats(leaf)) };
  });
  const evaluated = await Promise.all(matrices);
  return Object.fromEntries(Object.keys(linears).map((name, at) => [name, evaluated[at]]));
}
