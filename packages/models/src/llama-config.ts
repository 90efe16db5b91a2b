// The settings of Llama-like config.json files, checked: sizes, heads, attention windows.
import { z } from 'zod';
import type { HeadGeometry, PositionLimit } from './block-design.js';
import { count, flag, parseSource, requireSupported, wrong } from './config-source.js';

const settings = z.record(z.string(), z.unknown()).nullish();

const schema = z.object({
  model_type: z.string(),
  vocab_size: count,
  hidden_size: count,
  intermediate_size: count,
  num_hidden_layers: count,
  num_attention_heads: count,
  num_key_value_heads: count.nullish(),
  head_dim: count.nullish(),
  max_position_embeddings: count,
  rms_norm_eps: z.number().positive().default(1e-6),
  hidden_act: z.string().default('silu'),
  tie_word_embeddings: flag,
  attention_bias: flag,
  mlp_bias: flag,
  rope_theta: z.number().positive().nullish(),
  rope_scaling: settings,
  rope_parameters: settings,
  partial_rotary_factor: z.number().nullish(),
  sliding_window: count.nullish(),
  use_sliding_window: flag,
  max_window_layers: z.int().nonnegative().nullish(),
  layer_types: z.array(z.string()).nullish(),
});

export type LlamaSource = z.output<typeof schema>;

/** @throws MODEL_CONFIG naming each setting that is missing or wrong. */
export function parseLlamaSource(source: Readonly<Record<string, unknown>>): LlamaSource {
  const data = parseSource(schema, source);
  requireSupported('hidden_act', data.hidden_act, ['silu', 'swish']);
  if (data.partial_rotary_factor != null) requireSupported('partial_rotary_factor', data.partial_rotary_factor, [1]);
  return data;
}

/** Heads and their size: `defaultHeadDim`, where `head_dim` is not given, or what divides the width. @throws MODEL_CONFIG when they do not divide. */
export function headGeometry(source: LlamaSource, defaultHeadDim: number | undefined): HeadGeometry {
  const headCount = source.num_attention_heads;
  const keyValueHeadCount = source.num_key_value_heads ?? headCount;
  const headDim = source.head_dim ?? defaultHeadDim ?? source.hidden_size / headCount;
  if (!Number.isInteger(headDim))
    throw wrong(`hidden_size ${source.hidden_size} does not divide into ${headCount} attention heads, and head_dim is not given`);
  if (headDim % 2 !== 0) throw wrong(`rotary positions need an even head size, got ${headDim}`);
  if (headCount % keyValueHeadCount !== 0)
    throw wrong(`${headCount} attention heads do not divide into ${keyValueHeadCount} key-value heads`);
  return { headCount, keyValueHeadCount, headDim };
}

const layerTypes = ['full_attention', 'sliding_attention'];

/**
 * The limit that a sliding attention window sets: up to its width it is plain causal attention. `isWindowed` says whether any
 * layer has it when `layer_types` does not.
 * @throws MODEL_OPTION for attention of another kind.
 */
export function windowLimit(source: LlamaSource, isWindowed: boolean): PositionLimit | undefined {
  for (const type of source.layer_types ?? []) requireSupported('layer_types entry', type, layerTypes);
  const applies = source.layer_types ? source.layer_types.includes('sliding_attention') : isWindowed;
  const width = source.sliding_window;
  return applies && width != null
    ? { positions: width, reason: 'beyond its sliding attention window the model attends to a part of the sequence' }
    : undefined;
}
