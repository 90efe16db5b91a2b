// Loading: settings read from config.json in the spellings that exist, and refusals that name what is wrong.
import { DenseLinear, LowbitError, tensor } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { families, loadModel } from '../src/index.js';
import {
  type MemoryCheckpoint,
  memoryCheckpoint,
  randomCheckpoint,
  type SmallConfig,
  smallConfig,
  tensorShapes,
} from './memory-checkpoint.js';

function withConfig(changed: Record<string, unknown>): MemoryCheckpoint {
  return { ...randomCheckpoint(smallConfig), config: { ...smallConfig, ...changed } };
}

/** A checkpoint with some entries changed: another shape, or undefined to remove it. */
function withEntries(
  changed: Record<string, readonly number[] | undefined>,
  config: Record<string, unknown> = smallConfig,
): MemoryCheckpoint {
  const shapes = tensorShapes(smallConfig);
  for (const [name, shape] of Object.entries(changed)) {
    if (shape) shapes.set(name, shape);
    else shapes.delete(name);
  }
  return memoryCheckpoint(config, new Map([...shapes.keys()].map((name) => [name, new Float32Array(1)])), shapes);
}

describe('loadModel', () => {
  it('knows what config.json says', async () => {
    const model = await loadModel(withConfig({}));
    expect(model.config).toEqual({
      architecture: 'llama',
      vocabularySize: 37,
      hiddenSize: 24,
      blockCount: 2,
      headCount: 4,
      keyValueHeadCount: 2,
      headDim: 6,
      contextLength: 256,
      tiedEmbeddings: false,
      source: smallConfig,
    });
    expect(model.norm.epsilon).toBe(1e-5);
    expect(model.blocks[0].norms.input_layernorm.size).toBe(24);
    expect((model.head as DenseLinear).bitsPerElement).toBe(32);
  });

  it('shares the weight of tied embeddings', async () => {
    const model = await loadModel(randomCheckpoint({ ...smallConfig, tie_word_embeddings: true }));
    expect((model.head as DenseLinear).weight).toBe(model.embedding.weight);
    const mapped = model.map((t) => tensor(new Float32Array(t.size), t.shape));
    expect((mapped.head as DenseLinear).weight).toBe(mapped.embedding.weight);
  });

  it('takes a bias that config.json does not promise', async () => {
    const model = await loadModel(randomCheckpoint(smallConfig, { biased: ['self_attn.o_proj'] }));
    expect((model.blocks[0].linears['self_attn.o_proj'] as DenseLinear).bias?.shape).toEqual([24]);
  });

  it('bounds the context by a sliding window and refuses longer sequences', async () => {
    const model = await loadModel(withConfig({ model_type: 'mistral', sliding_window: 16 }));
    expect(model.config.contextLength).toBe(16);
    expect(() => model.forward(tensor(new Int32Array(16), [1, 16]))).not.toThrow();
    expect(() => model.forward(tensor(new Int32Array(17), [1, 17]))).toThrow(
      /^POSITION_LIMIT: model\.layers\.0: 17 positions .* 16 .*sliding/,
    );
  });

  it.each([
    ['mistral without a window', { model_type: 'mistral', sliding_window: null }, 256],
    ['qwen2 with its window switched off', { model_type: 'qwen2', use_sliding_window: false, sliding_window: 16 }, 256],
    [
      'qwen2 with a window after the last layer',
      { model_type: 'qwen2', use_sliding_window: true, sliding_window: 16, max_window_layers: 2 },
      256,
    ],
    ['qwen2 with a window', { model_type: 'qwen2', use_sliding_window: true, sliding_window: 16, max_window_layers: 1 }, 16],
    ['layers listed as full', { model_type: 'mistral', sliding_window: 16, layer_types: ['full_attention', 'full_attention'] }, 256],
    ['a layer listed as sliding', { model_type: 'qwen2', sliding_window: 16, layer_types: ['full_attention', 'sliding_attention'] }, 16],
    ['dynamic scaling', { rope_scaling: { rope_type: 'dynamic', factor: 4 }, max_position_embeddings: 64 }, 64],
  ])('context of %s', async (_, changed, contextLength) => {
    const config = { ...smallConfig, ...changed } as SmallConfig;
    const biased = config.model_type === 'qwen2' ? ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'] : [];
    const model = await loadModel(randomCheckpoint(config, { biased }));
    expect(model.config.contextLength).toBe(contextLength);
  });

  it('reads rotary settings as transformers 4 and 5 write them', async () => {
    const llama3 = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 64 };
    const spellings = [
      { rope_theta: 500000, rope_scaling: { rope_type: 'llama3', ...llama3 } },
      { rope_theta: undefined, rope_parameters: { rope_type: 'llama3', rope_theta: 500000, ...llama3 } },
    ];
    const tables = await Promise.all(
      spellings.map(async (changed) => {
        const model = await loadModel(withConfig(changed));
        const leaves: number[][] = [];
        const q = model.blocks[0].forward(tensor(new Float32Array(3 * 24), [1, 3, 24]));
        const visit = (t: typeof q): void => {
          if (t.source.kind === 'leaf') {
            if (t.source.data instanceof Float32Array && t.shape[1] === 3) leaves.push([...t.source.data]);
          } else t.source.inputs.forEach(visit);
        };
        visit(q);
        return leaves;
      }),
    );
    expect(tables[0].length).toBeGreaterThan(0);
    expect(tables[1]).toEqual(tables[0]);
  });
});

describe('refusals', () => {
  const cases: readonly [code: string, message: RegExp, checkpoint: MemoryCheckpoint][] = [
    [
      'MODEL_UNKNOWN',
      /memory: config\.json: model_type 'mamba' .*choose a model of one of llama, mistral, qwen2, qwen3, gpt2, opt/,
      withConfig({ model_type: 'mamba' }),
    ],
    ['MODEL_UNKNOWN', /'constructor'/, withConfig({ model_type: 'constructor' })],
    ['MODEL_CONFIG', /model_type is missing/, withConfig({ model_type: undefined })],
    ['MODEL_CONFIG', /hidden_size: /, withConfig({ hidden_size: undefined })],
    [
      'MODEL_CONFIG',
      /num_hidden_layers: .*; vocab_size|vocab_size: .*; num_hidden_layers/,
      withConfig({ num_hidden_layers: 0, vocab_size: 1.5 }),
    ],
    ['MODEL_CONFIG', /24 does not divide into 5 attention heads/, withConfig({ num_attention_heads: 5 })],
    ['MODEL_CONFIG', /4 attention heads do not divide into 3/, withConfig({ num_key_value_heads: 3 })],
    ['MODEL_CONFIG', /even head size, got 7/, withConfig({ head_dim: 7 })],
    ['MODEL_CONFIG', /rope scaling: factor/, withConfig({ rope_scaling: { type: 'linear' } })],
    ['MODEL_CONFIG', /low_freq_factor/, withConfig({ rope_scaling: { rope_type: 'llama3', factor: 8 } })],
    [
      'MODEL_CONFIG',
      /high_freq_factor 1 must be above low_freq_factor 4/,
      withConfig({
        rope_scaling: { rope_type: 'llama3', factor: 8, low_freq_factor: 4, high_freq_factor: 1, original_max_position_embeddings: 64 },
      }),
    ],
    ['MODEL_OPTION', /'yarn' is not supported; it also rescales/, withConfig({ rope_scaling: { rope_type: 'yarn', factor: 4 } })],
    ['MODEL_OPTION', /'longrope'/, withConfig({ rope_scaling: { type: 'longrope' } })],
    ['MODEL_OPTION', /'zigzag' is not supported; it is not known/, withConfig({ rope_scaling: { type: 'zigzag' } })],
    ['MODEL_OPTION', /hidden_act "gelu"/, withConfig({ hidden_act: 'gelu' })],
    ['MODEL_OPTION', /partial_rotary_factor 0\.5/, withConfig({ partial_rotary_factor: 0.5 })],
    ['MODEL_OPTION', /layer_types entry "chunked_attention"/, withConfig({ layer_types: ['chunked_attention'] })],
    ['TENSOR_MISSING', /lm_head\.weight/, withEntries({ 'lm_head.weight': undefined })],
    [
      'TENSOR_MISSING',
      /model\.layers\.1\.mlp\.up_proj\.weight: .*it has model\.layers\.0\.mlp\.up_proj\.weight/,
      withEntries({ 'model.layers.1.mlp.up_proj.weight': undefined }),
    ],
    ['TENSOR_MISSING', /model\.layers\.0\.self_attn\.q_proj\.bias/, withConfig({ model_type: 'qwen2' })],
    ['TENSOR_MISSING', /model\.layers\.0\.mlp\.gate_proj\.bias/, withConfig({ mlp_bias: true })],
    ['TENSOR_SHAPE', /model\.norm\.weight: has shape \[23\] where config\.json says \[24\]/, withEntries({ 'model.norm.weight': [23] })],
    ['TENSOR_SHAPE', /self_attn\.k_proj\.weight: has shape \[12, 24\] where .* \[24, 24\]/, withConfig({ num_key_value_heads: 4 })],
    [
      'CHECKPOINT_QUANTIZED',
      /q_proj\.weight: .*gptq.*full-precision/,
      withEntries(
        { 'model.layers.0.self_attn.q_proj.weight': undefined },
        { ...smallConfig, quantization_config: { quant_method: 'gptq' } },
      ),
    ],
    [
      'LINEAR_KIND',
      /'codebook'/,
      { ...withConfig({}), linears: new Map([['model.layers.0.mlp.up_proj', { kind: 'codebook', attributes: {}, tensors: {} }]]) },
    ],
    [
      'TENSOR_SHAPE',
      /mlp\.up_proj: the stored dense layer is \[2, 3\] where config\.json says \[40, 24\]/,
      {
        ...withConfig({}),
        linears: new Map([['model.layers.0.mlp.up_proj', new DenseLinear(tensor(new Float32Array(6), [2, 3])).state()]]),
      },
    ],
    ['TENSOR_DTYPE', /model\.embed_tokens\.weight: holds F32/, { ...withConfig({}), tensor: () => tensor(new Int8Array(1)) }],
  ];

  it.each(cases)('%s %s', async (code, message, checkpoint) => {
    const error = await loadModel(checkpoint).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(LowbitError);
    expect((error as LowbitError).code).toBe(code);
    expect((error as LowbitError).message).toMatch(message);
  });

  it('lists families by the names that config.json uses', () => {
    expect(Object.keys(families)).toEqual(['llama', 'mistral', 'qwen2', 'qwen3', 'gpt2', 'opt']);
  });
});
