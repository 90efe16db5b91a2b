// The tiny Llama's shape and its initial weights, ordinary or with outlier channels in the residual stream.
import { type Rng, type Tensor, tensor } from '@lowbit/core';

export interface TinyShape {
  readonly vocabularySize: number;
  readonly hiddenSize: number;
  readonly blockCount: number;
  readonly headCount: number;
  readonly keyValueHeadCount: number;
  readonly headDim: number;
  readonly innerSize: number;
  readonly contextLength: number;
}

/** Hugging Face config.json of a shape. */
export function llamaConfig(shape: TinyShape): Record<string, unknown> {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: shape.vocabularySize,
    hidden_size: shape.hiddenSize,
    intermediate_size: shape.innerSize,
    num_hidden_layers: shape.blockCount,
    num_attention_heads: shape.headCount,
    num_key_value_heads: shape.keyValueHeadCount,
    head_dim: shape.headDim,
    max_position_embeddings: shape.contextLength,
    hidden_act: 'silu',
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    attention_bias: false,
    mlp_bias: false,
    tie_word_embeddings: true,
    bos_token_id: 0,
    eos_token_id: 0,
    pad_token_id: 1,
    torch_dtype: 'bfloat16',
  };
}

const EMBEDDING_DEVIATION = 0.04;

/**
 * Channels of the residual stream that are far larger than the rest for every token, as real models have (Dettmers et al.,
 * arXiv 2208.07339; Sun et al., arXiv 2402.17762): two constants, one that varies by token, one that is large for two tokens only.
 */
export const OUTLIER_CHANNELS = {
  constant: [
    [17, 3],
    [101, -2],
  ],
  varying: 58,
  deviation: 1.5,
  massive: 140,
  massiveValue: 6,
} as const;

/** The channels of `OUTLIER_CHANNELS` by index. */
export function outlierChannels(): number[] {
  return [...OUTLIER_CHANNELS.constant.map(([channel]) => channel), OUTLIER_CHANNELS.varying, OUTLIER_CHANNELS.massive];
}

/** Initial parameters by checkpoint name. Matrices that write the residual stream start smaller by √(2·blocks) (GPT-2). */
export function initialParameters(shape: TinyShape, rng: Rng): Map<string, Tensor> {
  const { hiddenSize, innerSize, headDim } = shape;
  const parameters = new Map<string, Tensor>();
  const addMatrix = (name: string, rows: number, columns: number, deviation: number): void => {
    const values = rng
      .at(name)
      .normal(rows * columns)
      .map((x) => x * deviation);
    parameters.set(name, tensor(values, [rows, columns]));
  };
  const addNorm = (name: string): void => void parameters.set(name, tensor(new Float32Array(hiddenSize).fill(1), [hiddenSize]));
  addMatrix('model.embed_tokens.weight', shape.vocabularySize, hiddenSize, EMBEDDING_DEVIATION);
  const reading = 1 / Math.sqrt(hiddenSize);
  const writing = 1 / Math.sqrt(2 * shape.blockCount);
  for (let block = 0; block < shape.blockCount; block++) {
    const path = `model.layers.${block}`;
    addNorm(`${path}.input_layernorm.weight`);
    addMatrix(`${path}.self_attn.q_proj.weight`, shape.headCount * headDim, hiddenSize, reading);
    addMatrix(`${path}.self_attn.k_proj.weight`, shape.keyValueHeadCount * headDim, hiddenSize, reading);
    addMatrix(`${path}.self_attn.v_proj.weight`, shape.keyValueHeadCount * headDim, hiddenSize, reading);
    addMatrix(`${path}.self_attn.o_proj.weight`, hiddenSize, shape.headCount * headDim, writing / Math.sqrt(shape.headCount * headDim));
    addNorm(`${path}.post_attention_layernorm.weight`);
    addMatrix(`${path}.mlp.gate_proj.weight`, innerSize, hiddenSize, reading);
    addMatrix(`${path}.mlp.up_proj.weight`, innerSize, hiddenSize, reading);
    addMatrix(`${path}.mlp.down_proj.weight`, hiddenSize, innerSize, writing / Math.sqrt(innerSize));
  }
  addNorm('model.norm.weight');
  return parameters;
}

/**
 * The same parameters with outlier channels written into the embedding. The final norm starts with γ = 0 on them: the head is
 * the embedding, and would otherwise begin by reading the channel that varies by token.
 */
export function addOutliers(parameters: ReadonlyMap<string, Tensor>, massiveTokens: readonly number[], rng: Rng): Map<string, Tensor> {
  return new Map(
    [...parameters].map(([name, parameter]) => {
      if (name === 'model.embed_tokens.weight') return [name, outlierEmbedding(parameter, massiveTokens, rng.at(name))];
      if (name === 'model.norm.weight') return [name, withoutChannels(parameter, outlierChannels())];
      return [name, parameter];
    }),
  );
}

function hostData(leaf: Tensor): Float32Array {
  return Float32Array.from((leaf.source.kind === 'leaf' && leaf.source.data) || []);
}

function outlierEmbedding(embedding: Tensor, massiveTokens: readonly number[], rng: Rng): Tensor {
  const [vocabulary, width] = embedding.shape;
  const data = hostData(embedding);
  const varying = rng.normal(vocabulary);
  for (let token = 0; token < vocabulary; token++) {
    for (const [channel, value] of OUTLIER_CHANNELS.constant) data[token * width + channel] += value;
    data[token * width + OUTLIER_CHANNELS.varying] += varying[token] * OUTLIER_CHANNELS.deviation;
  }
  for (const token of massiveTokens) data[token * width + OUTLIER_CHANNELS.massive] += OUTLIER_CHANNELS.massiveValue;
  return tensor(data, embedding.shape);
}

function withoutChannels(weight: Tensor, channels: readonly number[]): Tensor {
  const data = hostData(weight);
  for (const channel of channels) data[channel] = 0;
  return tensor(data, weight.shape);
}
