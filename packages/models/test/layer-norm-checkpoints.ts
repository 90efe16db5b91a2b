// Random checkpoints of GPT-2 and OPT in memory: config.json and the tensors that transformers writes for it.
import type { Shape } from '@lowbit/core';
import { type MemoryCheckpoint, randomCheckpointOf } from './memory-checkpoint.js';

export const smallGpt2 = {
  model_type: 'gpt2',
  vocab_size: 37,
  n_embd: 24,
  n_layer: 2,
  n_head: 4,
  n_positions: 64,
  n_inner: null as number | null,
  activation_function: 'gelu_new',
  layer_norm_epsilon: 1e-5,
};

export type SmallGpt2 = typeof smallGpt2 & Record<string, unknown>;

export const smallOpt = {
  model_type: 'opt',
  vocab_size: 37,
  hidden_size: 24,
  ffn_dim: 40,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  max_position_embeddings: 64,
  activation_function: 'relu',
  do_layer_norm_before: true,
  word_embed_proj_dim: 24,
};

export type SmallOpt = typeof smallOpt & Record<string, unknown>;

type Entries = (readonly [name: string, shape: Shape])[];

const withBias = (path: string, weight: Shape, outputs: number): Entries => [
  [`${path}.weight`, weight],
  [`${path}.bias`, [outputs]],
];

/** Weights of Conv1D layers are [in, out]. `root` is what all names but the head's begin with. */
export function gpt2Shapes(config: SmallGpt2, root = 'transformer.'): Map<string, Shape> {
  const { n_embd: width, n_layer, vocab_size, n_positions } = config;
  const inner = config.n_inner ?? 4 * width;
  const conv = (path: string, inputs: number, outputs: number): Entries => withBias(path, [inputs, outputs], outputs);
  const blocks = Array.from({ length: n_layer }, (_, index) => `${root}h.${index}`).flatMap((path) => [
    ...withBias(`${path}.ln_1`, [width], width),
    ...conv(`${path}.attn.c_attn`, width, 3 * width),
    ...conv(`${path}.attn.c_proj`, width, width),
    ...withBias(`${path}.ln_2`, [width], width),
    ...conv(`${path}.mlp.c_fc`, width, inner),
    ...conv(`${path}.mlp.c_proj`, inner, width),
  ]);
  return new Map<string, Shape>([
    [`${root}wte.weight`, [vocab_size, width]],
    [`${root}wpe.weight`, [n_positions, width]],
    ...blocks,
    ...withBias(`${root}ln_f`, [width], width),
    ...(config.tie_word_embeddings === false ? ([['lm_head.weight', [vocab_size, width]]] as const) : []),
  ]);
}

export function optShapes(config: SmallOpt, root = 'model.decoder'): Map<string, Shape> {
  const { hidden_size: width, ffn_dim: inner, num_hidden_layers, vocab_size, max_position_embeddings: positions } = config;
  const linear = (path: string, inputs: number, outputs: number): Entries =>
    withBias(path, [outputs, inputs], outputs).slice(0, config.enable_bias === false ? 1 : 2);
  const blocks = Array.from({ length: num_hidden_layers }, (_, index) => `${root}.layers.${index}`).flatMap((path) => [
    ...withBias(`${path}.self_attn_layer_norm`, [width], width),
    ...['q_proj', 'k_proj', 'v_proj', 'out_proj'].flatMap((name) => linear(`${path}.self_attn.${name}`, width, width)),
    ...withBias(`${path}.final_layer_norm`, [width], width),
    ...linear(`${path}.fc1`, width, inner),
    ...linear(`${path}.fc2`, inner, width),
  ]);
  return new Map<string, Shape>([
    [`${root}.embed_tokens.weight`, [vocab_size, width]],
    [`${root}.embed_positions.weight`, [positions + 2, width]],
    ...blocks,
    ...withBias(`${root}.final_layer_norm`, [width], width),
    ...(config.tie_word_embeddings === false ? ([['lm_head.weight', [vocab_size, width]]] as const) : []),
  ]);
}

export const randomGpt2 = (config: SmallGpt2 = smallGpt2, root?: string): MemoryCheckpoint =>
  randomCheckpointOf(config, gpt2Shapes(config, root));

export const randomOpt = (config: SmallOpt = smallOpt, root?: string): MemoryCheckpoint =>
  randomCheckpointOf(config, optShapes(config, root));
