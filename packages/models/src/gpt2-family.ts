// GPT-2: LayerNorms, learned positions, one Linear for queries, keys and values, weights stored [in, out], a tied head.
import type { CheckpointLayout, Linear, ModelConfig, Norm } from '@lowbit/core';
import { z } from 'zod';
import { activationOf } from './activations.js';
import { StreamPositions } from './attention-positions.js';
import type { BlockDesign, BlockSettings } from './block-design.js';
import { count, dividedHeads, flag, parseSource, requireSupported } from './config-source.js';
import { DecoderBlock } from './decoder-block.js';
import type { Family } from './family.js';
import type { WeightReader } from './weight-reader.js';

const schema = z.object({
  model_type: z.string(),
  vocab_size: count,
  n_embd: count,
  n_layer: count,
  n_head: count,
  n_positions: count,
  n_inner: count.nullish(),
  activation_function: z.string().default('gelu_new'),
  layer_norm_epsilon: z.number().positive().default(1e-5),
  scale_attn_weights: z.boolean().default(true),
  scale_attn_by_inverse_layer_idx: z.boolean().default(false),
  add_cross_attention: z.boolean().default(false),
  tie_word_embeddings: flag,
});

type Gpt2Source = z.output<typeof schema>;

function parse(input: Readonly<Record<string, unknown>>): Gpt2Source {
  const source = parseSource(schema, input);
  requireSupported('scale_attn_weights', source.scale_attn_weights, [true]);
  requireSupported('scale_attn_by_inverse_layer_idx', source.scale_attn_by_inverse_layer_idx, [false]);
  requireSupported('add_cross_attention', source.add_cross_attention, [false]);
  return source;
}

export const gpt2: Family = (input) => {
  const source = parse(input);
  const headCount = source.n_head;
  const geometry = { headCount, keyValueHeadCount: headCount, headDim: dividedHeads(source.n_embd, headCount) };
  const config: ModelConfig = {
    architecture: source.model_type,
    vocabularySize: source.vocab_size,
    hiddenSize: source.n_embd,
    blockCount: source.n_layer,
    ...geometry,
    contextLength: source.n_positions,
    tiedEmbeddings: source.tie_word_embeddings ?? true,
    source: input,
  };
  const design = designOf(source);
  const settings: BlockSettings = { ...geometry, positions: new StreamPositions() };
  return {
    config,
    build: (weights) => {
      // The first checkpoints were saved without their head, whose names have no prefix.
      const root = weights.has('wte.weight') ? '' : 'transformer.';
      const layout: CheckpointLayout = {
        embedding: { weight: `${root}wte.weight`, positions: `${root}wpe.weight` },
        norm: `${root}ln_f`,
        head: 'lm_head',
        isTiedByDefault: true,
        isTransposed: true,
      };
      const embedding = weights.embedding({
        name: layout.embedding.weight,
        vocabularySize: source.vocab_size,
        width: source.n_embd,
        positions: { name: layout.embedding.positions, count: source.n_positions, offset: 0 },
      });
      return {
        embedding,
        blocks: Array.from({ length: source.n_layer }, (_, index) => readBlock(weights, `${root}h.${index}`, source, design, settings)),
        norm: weights.layerNorm(layout.norm, { size: source.n_embd, epsilon: source.layer_norm_epsilon }),
        head: weights.head(layout.head, embedding, config.tiedEmbeddings ? layout.embedding.weight : undefined),
        layout,
      };
    },
  };
};

function designOf({ activation_function }: Gpt2Source): BlockDesign {
  const activation = activationOf(activation_function);
  return {
    attention: { norm: 'ln_1', inputs: ['attn.c_attn'], output: 'attn.c_proj' },
    mlp: { norm: 'ln_2', inputs: ['mlp.c_fc'], output: 'mlp.c_proj', activate: ([x]) => activation(x) },
  };
}

function readBlock(weights: WeightReader, path: string, source: Gpt2Source, design: BlockDesign, settings: BlockSettings): DecoderBlock {
  const { n_embd: width, layer_norm_epsilon: epsilon } = source;
  const inner = source.n_inner ?? 4 * width;
  const linear = (name: string, inFeatures: number, outFeatures: number): [string, Linear] => [
    name,
    weights.linear(`${path}.${name}`, { inFeatures, outFeatures, hasBias: true, isTransposed: true }),
  ];
  const norm = (name: string): [string, Norm] => [name, weights.layerNorm(`${path}.${name}`, { size: width, epsilon })];
  const { attention, mlp } = design;
  return new DecoderBlock(design, settings, {
    path,
    linears: Object.fromEntries([
      ...attention.inputs.map((name) => linear(name, width, 3 * width)),
      linear(attention.output, width, width),
      ...mlp.inputs.map((name) => linear(name, width, inner)),
      linear(mlp.output, inner, width),
    ]),
    norms: Object.fromEntries([norm(attention.norm), norm(mlp.norm)]),
    keyValues: weights.keyValues(path),
  });
}
