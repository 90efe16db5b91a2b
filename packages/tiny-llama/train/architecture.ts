// The tiny Llama's shape and its initial weights.
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
  readonly tiedEmbeddings: boolean;
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
    tie_word_embeddings: shape.tiedEmbeddings,
    bos_token_id: 0,
    eos_token_id: 0,
    pad_token_id: 1,
    torch_dtype: 'bfloat16',
  };
}

const EMBEDDING_DEVIATION = 0.04;

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
  if (!shape.tiedEmbeddings) addMatrix('lm_head.weight', shape.vocabularySize, hiddenSize, EMBEDDING_DEVIATION);
  return parameters;
}
