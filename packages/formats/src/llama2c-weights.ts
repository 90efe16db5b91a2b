// Weights of a llama2.c checkpoint in its legacy format: seven int32, then float32 tensors in a fixed order.
// https://github.com/karpathy/llama2.c (run.c, export.py: legacy_export)
import { LowbitError } from '@lowbit/core';

/** Bytes of the header. */
export const HEADER_BYTES = 28;

/** The header's fields. */
export interface Llama2cConfig {
  readonly hiddenSize: number;
  readonly innerSize: number;
  readonly blockCount: number;
  readonly headCount: number;
  readonly keyValueHeadCount: number;
  readonly vocabularySize: number;
  readonly contextLength: number;
  /** Whether the head is the embedding's weight: the file says so by the sign of the vocabulary size. */
  readonly tied: boolean;
}

/** Where a tensor lies among the floats after the header. */
export interface Llama2cTensor {
  readonly shape: readonly number[];
  /** In floats. */
  readonly start: number;
  /**
   * Heads whose rows are stored for rotary pairs (2i, 2i + 1). Hugging Face pairs i with i + headDim / 2, so a reader brings
   * the even rows of each head before the odd ones.
   */
  readonly interleavedHeads?: number;
}

/**
 * The header, checked against the bytes that the checkpoint has.
 * @throws LLAMA2C_HEADER saying which field is wrong.
 */
export function parseLlama2cHeader(header: Uint8Array, checkpointBytes: number, where: string): Llama2cConfig {
  const fail = (what: string) =>
    new LowbitError('LLAMA2C_HEADER', `${where}: ${what}; it is not a llama2.c checkpoint in the legacy format, or damaged`);
  if (header.length < HEADER_BYTES) throw fail(`has ${header.length} bytes, fewer than the ${HEADER_BYTES} of a header`);
  const view = new DataView(header.buffer, header.byteOffset, HEADER_BYTES);
  const field = (i: number, name: string): number => {
    const value = view.getInt32(4 * i, true);
    if (value <= 0) throw fail(`${name} is ${value}`);
    return value;
  };
  const signedVocabulary = view.getInt32(4 * 5, true);
  if (signedVocabulary === 0) throw fail('vocab_size is 0');
  const config = {
    hiddenSize: field(0, 'dim'),
    innerSize: field(1, 'hidden_dim'),
    blockCount: field(2, 'n_layers'),
    headCount: field(3, 'n_heads'),
    keyValueHeadCount: field(4, 'n_kv_heads'),
    vocabularySize: Math.abs(signedVocabulary),
    contextLength: field(6, 'seq_len'),
    tied: signedVocabulary > 0,
  };
  const { hiddenSize, headCount, keyValueHeadCount } = config;
  if (hiddenSize % (2 * headCount) !== 0) throw fail(`dim ${hiddenSize} does not divide into ${headCount} heads of even size`);
  if (headCount % keyValueHeadCount !== 0) throw fail(`${headCount} heads do not share ${keyValueHeadCount} key-value heads evenly`);
  const expected = HEADER_BYTES + 4 * floatCount(config);
  if (expected !== checkpointBytes) throw fail(`its header describes ${expected} bytes and it has ${checkpointBytes}`);
  return config;
}

// Inexact for absurd headers, which then match no file size.
function floatCount({
  hiddenSize: dim,
  innerSize,
  blockCount,
  headCount,
  keyValueHeadCount,
  vocabularySize,
  contextLength,
  tied,
}: Llama2cConfig): number {
  const keyValue = (dim / headCount) * keyValueHeadCount;
  const block = 2 * dim + 2 * dim * dim + 2 * dim * keyValue + 3 * dim * innerSize;
  return vocabularySize * dim * (tied ? 1 : 2) + blockCount * block + dim + (contextLength * dim) / headCount;
}

/** Every tensor by its Hugging Face name. The rotary tables (freq_cis), which follow from the configuration, are passed over. */
export function llama2cTensors(config: Llama2cConfig): ReadonlyMap<string, Llama2cTensor> {
  const { hiddenSize: dim, innerSize, blockCount, headCount, keyValueHeadCount, vocabularySize, contextLength, tied } = config;
  const headDim = dim / headCount;
  const found = new Map<string, Llama2cTensor>();
  let at = 0;
  const take = (name: string, shape: readonly number[], interleavedHeads?: number): void => {
    found.set(name, { shape, start: at, ...(interleavedHeads !== undefined && { interleavedHeads }) });
    at += shape.reduce((product, n) => product * n, 1);
  };
  // The file holds one kind of tensor for all blocks, then the next kind.
  const takeEach = (name: string, shape: readonly number[], interleavedHeads?: number): void => {
    for (let block = 0; block < blockCount; block++) take(`model.layers.${block}.${name}.weight`, shape, interleavedHeads);
  };
  take('model.embed_tokens.weight', [vocabularySize, dim]);
  takeEach('input_layernorm', [dim]);
  takeEach('self_attn.q_proj', [dim, dim], headCount);
  takeEach('self_attn.k_proj', [headDim * keyValueHeadCount, dim], keyValueHeadCount);
  takeEach('self_attn.v_proj', [headDim * keyValueHeadCount, dim]);
  takeEach('self_attn.o_proj', [dim, dim]);
  takeEach('post_attention_layernorm', [dim]);
  takeEach('mlp.gate_proj', [innerSize, dim]);
  takeEach('mlp.down_proj', [dim, innerSize]);
  takeEach('mlp.up_proj', [innerSize, dim]);
  take('model.norm.weight', [dim]);
  at += contextLength * headDim; // freq_cis_real and freq_cis_imag, [seq_len, headDim / 2] each
  if (!tied) take('lm_head.weight', [vocabularySize, dim]);
  return found;
}

/** Rows [heads · headDim, columns] from interleaved rotary pairs to halves: row 2i + j of a head becomes row i + j · headDim / 2. */
export function deinterleaveRows(rows: Float32Array, heads: number, columns: number): Float32Array {
  const moved = new Float32Array(rows.length);
  const headDim = rows.length / columns / heads;
  for (let head = 0; head < heads; head++) {
    for (let row = 0; row < headDim; row++) {
      const from = (head * headDim + row) * columns;
      const to = (head * headDim + (row >> 1) + (row & 1) * (headDim / 2)) * columns;
      moved.set(rows.subarray(from, from + columns), to);
    }
  }
  return moved;
}

/** The checkpoint's configuration as a Hugging Face config.json. What the file does not say are run.c's constants. */
export function llama2cHuggingFaceConfig(config: Llama2cConfig): Record<string, unknown> {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_size: config.hiddenSize,
    intermediate_size: config.innerSize,
    num_hidden_layers: config.blockCount,
    num_attention_heads: config.headCount,
    num_key_value_heads: config.keyValueHeadCount,
    vocab_size: config.vocabularySize,
    max_position_embeddings: config.contextLength,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    hidden_act: 'silu',
    tie_word_embeddings: config.tied,
    bos_token_id: 1,
    eos_token_id: 2,
    attention_bias: false,
    mlp_bias: false,
    torch_dtype: 'float32',
  };
}
