// Families made of Llama blocks. They differ in which layers have biases and in whether attention has a window.
import type { Linear, ModelConfig, Norm } from '@lowbit/core';
import type { Family } from './family.js';
import { LlamaBlock, type LlamaBlockSettings, type PositionLimit } from './llama-block.js';
import { headGeometry, type LlamaSource, parseLlamaSource, windowLimit } from './llama-config.js';
import { PositionTables } from './position-tables.js';
import { rotaryConfig } from './rotary-config.js';
import type { WeightReader } from './weight-reader.js';

/** Which Linears have biases. */
interface Biases {
  /** q, k and v. */
  readonly attention: boolean;
  readonly attentionOutput: boolean;
  readonly mlp: boolean;
}

interface LlamaVariant {
  biases(source: LlamaSource): Biases;
  /** Whether some layer attends through a sliding window, where `layer_types` is not given. */
  isWindowed(source: LlamaSource): boolean;
}

/** Llama 1 to 3.x. */
export const llama: Family = llamaFamily({
  biases: ({ attention_bias, mlp_bias }) => ({
    attention: attention_bias === true,
    attentionOutput: attention_bias === true,
    mlp: mlp_bias === true,
  }),
  isWindowed: () => false,
});

export const mistral: Family = llamaFamily({
  biases: () => ({ attention: false, attentionOutput: false, mlp: false }),
  isWindowed: () => true,
});

export const qwen2: Family = llamaFamily({
  biases: () => ({ attention: true, attentionOutput: false, mlp: false }),
  // Layers from max_window_layers on.
  isWindowed: ({ use_sliding_window, max_window_layers, num_hidden_layers }) =>
    use_sliding_window === true && (max_window_layers ?? 0) < num_hidden_layers,
});

function llamaFamily(variant: LlamaVariant): Family {
  return (input) => {
    const source = parseLlamaSource(input);
    const geometry = headGeometry(source);
    const rotary = rotaryConfig(source);
    const limit = tighter(rotary.limit, windowLimit(source, variant.isWindowed(source)));
    const config: ModelConfig = {
      architecture: source.model_type,
      vocabularySize: source.vocab_size,
      hiddenSize: source.hidden_size,
      blockCount: source.num_hidden_layers,
      ...geometry,
      contextLength: Math.min(source.max_position_embeddings, limit?.positions ?? Infinity),
      tiedEmbeddings: source.tie_word_embeddings === true,
      source: input,
    };
    const positions = new PositionTables({ headDim: geometry.headDim, theta: rotary.theta, scaling: rotary.scaling });
    const settings: LlamaBlockSettings = { ...geometry, positions, limit };
    return {
      config,
      build: (weights) => {
        const width = weights.width(config.hiddenSize);
        const embedding = weights.embedding('model.embed_tokens', config.vocabularySize, width);
        return {
          embedding,
          blocks: Array.from({ length: config.blockCount }, (_, index) =>
            readBlock(weights, index, source, settings, variant.biases(source)),
          ),
          norm: weights.rmsNorm('model.norm', { size: config.hiddenSize, width, epsilon: source.rms_norm_eps }),
          head: weights.head('lm_head', embedding, config.tiedEmbeddings),
        };
      },
    };
  };
}

function tighter(a: PositionLimit | undefined, b: PositionLimit | undefined): PositionLimit | undefined {
  return a && b ? (b.positions < a.positions ? b : a) : (a ?? b);
}

function readBlock(weights: WeightReader, index: number, source: LlamaSource, settings: LlamaBlockSettings, biases: Biases): LlamaBlock {
  const { hidden_size: size, intermediate_size: inner, rms_norm_eps: epsilon } = source;
  const width = weights.width(size);
  const heads = settings.headCount * settings.headDim;
  const keyValueHeads = settings.keyValueHeadCount * settings.headDim;
  const path = `model.layers.${index}`;
  const linear = (name: string, inFeatures: number, outFeatures: number, hasBias: boolean): [string, Linear] => [
    name,
    weights.linear(`${path}.${name}`, { inFeatures, outFeatures, hasBias }),
  ];
  const norm = (name: string): [string, Norm] => [name, weights.rmsNorm(`${path}.${name}`, { size, width, epsilon })];
  return new LlamaBlock(settings, {
    path,
    linears: Object.fromEntries([
      linear('self_attn.q_proj', width, heads, biases.attention),
      linear('self_attn.k_proj', width, keyValueHeads, biases.attention),
      linear('self_attn.v_proj', width, keyValueHeads, biases.attention),
      linear('self_attn.o_proj', heads, width, biases.attentionOutput),
      linear('mlp.gate_proj', width, inner, biases.mlp),
      linear('mlp.up_proj', width, inner, biases.mlp),
      linear('mlp.down_proj', inner, width, biases.mlp),
    ]),
    norms: Object.fromEntries([norm('input_layernorm'), norm('post_attention_layernorm')]),
    keyValues: weights.keyValues(path),
  });
}
