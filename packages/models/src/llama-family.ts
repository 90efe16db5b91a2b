// Families made of Llama's blocks. They differ in which layers have biases, in norms of heads, and in whether attention has a window.
import { type Linear, type ModelConfig, mul, type Norm, silu } from '@lowbit/core';
import { RotaryPositions } from './attention-positions.js';
import type { BlockDesign, BlockSettings, PositionLimit } from './block-design.js';
import { DecoderBlock } from './decoder-block.js';
import type { Family } from './family.js';
import { headGeometry, type LlamaSource, parseLlamaSource, windowLimit } from './llama-config.js';
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
  readonly design: BlockDesign;
  biases(source: LlamaSource): Biases;
  /** Whether some layer attends through a sliding window, where `layer_types` is not given. */
  isWindowed(source: LlamaSource): boolean;
  /** Where config.json has no `head_dim`. Default: the width divided among the heads. */
  readonly headDim?: number;
}

/** RMSNorm, grouped-query attention with rotary positions, RMSNorm, gated MLP. */
export const llamaDesign: BlockDesign = {
  attention: {
    norm: 'input_layernorm',
    inputs: ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'],
    output: 'self_attn.o_proj',
  },
  mlp: {
    norm: 'post_attention_layernorm',
    inputs: ['mlp.gate_proj', 'mlp.up_proj'],
    output: 'mlp.down_proj',
    activate: ([gate, up]) => mul(silu(gate), up),
  },
};

const optionalBiases = ({ attention_bias, mlp_bias }: LlamaSource): Biases => ({
  attention: attention_bias === true,
  attentionOutput: attention_bias === true,
  mlp: mlp_bias === true,
});

/** Layers from max_window_layers on. */
const isQwenWindowed = ({ use_sliding_window, max_window_layers, num_hidden_layers }: LlamaSource): boolean =>
  use_sliding_window === true && (max_window_layers ?? 0) < num_hidden_layers;

/** Llama 1 to 3.x. */
export const llama: Family = llamaFamily({ design: llamaDesign, biases: optionalBiases, isWindowed: () => false });

export const mistral: Family = llamaFamily({
  design: llamaDesign,
  biases: () => ({ attention: false, attentionOutput: false, mlp: false }),
  isWindowed: () => true,
});

export const qwen2: Family = llamaFamily({
  design: llamaDesign,
  biases: () => ({ attention: true, attentionOutput: false, mlp: false }),
  isWindowed: isQwenWindowed,
});

/** Norms of queries and keys in place of biases (arXiv 2505.09388, §2). */
export const qwen3: Family = llamaFamily({
  design: {
    ...llamaDesign,
    attention: { ...llamaDesign.attention, headNorms: { query: 'self_attn.q_norm', key: 'self_attn.k_norm' } },
  },
  biases: (source) => ({ ...optionalBiases(source), mlp: false }),
  isWindowed: isQwenWindowed,
  headDim: 128,
});

function llamaFamily(variant: LlamaVariant): Family {
  return (input) => {
    const source = parseLlamaSource(input);
    const geometry = headGeometry(source, variant.headDim);
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
    const positions = new RotaryPositions({ headDim: geometry.headDim, theta: rotary.theta, scaling: rotary.scaling });
    const settings: BlockSettings = { ...geometry, positions, limit };
    return {
      config,
      build: (weights) => {
        const width = weights.width(config.hiddenSize);
        const name = 'model.embed_tokens.weight';
        const embedding = weights.embedding({ name, vocabularySize: config.vocabularySize, width });
        return {
          embedding,
          blocks: Array.from({ length: config.blockCount }, (_, index) => readBlock(weights, index, source, settings, variant)),
          norm: weights.rmsNorm('model.norm', { size: config.hiddenSize, width, epsilon: source.rms_norm_eps }),
          head: weights.head('lm_head', embedding, config.tiedEmbeddings ? name : undefined),
        };
      },
    };
  };
}

function tighter(a: PositionLimit | undefined, b: PositionLimit | undefined): PositionLimit | undefined {
  return a && b ? (b.positions < a.positions ? b : a) : (a ?? b);
}

function readBlock(
  weights: WeightReader,
  index: number,
  source: LlamaSource,
  settings: BlockSettings,
  { design, ...variant }: LlamaVariant,
): DecoderBlock {
  const { hidden_size: size, intermediate_size: inner, rms_norm_eps: epsilon } = source;
  const { headDim } = settings;
  const width = weights.width(size);
  const heads = settings.headCount * headDim;
  const keyValueHeads = settings.keyValueHeadCount * headDim;
  const biases = variant.biases(source);
  const path = `model.layers.${index}`;
  const linear = (name: string, inFeatures: number, outFeatures: number, hasBias: boolean): [string, Linear] => [
    name,
    weights.linear(`${path}.${name}`, { inFeatures, outFeatures, hasBias }),
  ];
  const norm = (name: string, sizes = { size, width }): [string, Norm] => [name, weights.rmsNorm(`${path}.${name}`, { ...sizes, epsilon })];
  const { attention, mlp } = design;
  const headNorms = attention.headNorms ? Object.values(attention.headNorms) : [];
  const [query, key, value] = attention.inputs;
  return new DecoderBlock(design, settings, {
    path,
    linears: Object.fromEntries([
      linear(query, width, heads, biases.attention),
      linear(key, width, keyValueHeads, biases.attention),
      linear(value, width, keyValueHeads, biases.attention),
      linear(attention.output, heads, width, biases.attentionOutput),
      ...mlp.inputs.map((name) => linear(name, width, inner, biases.mlp)),
      linear(mlp.output, inner, width, biases.mlp),
    ]),
    norms: Object.fromEntries([
      norm(attention.norm),
      ...headNorms.map((name) => norm(name, { size: headDim, width: headDim })),
      norm(mlp.norm),
    ]),
    keyValues: weights.keyValues(path),
  });
}
