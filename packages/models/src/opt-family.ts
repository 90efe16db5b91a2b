// OPT: LayerNorms, learned positions whose table begins two rows early, ReLU, biases, a tied head.
import type { CheckpointLayout, Linear, ModelConfig, Norm } from '@lowbit/core';
import { z } from 'zod';
import { activationOf } from './activations.js';
import { StreamPositions } from './attention-positions.js';
import type { BlockDesign, BlockSettings } from './block-design.js';
import { count, dividedHeads, flag, parseSource, requireSupported, unsupported } from './config-source.js';
import { DecoderBlock } from './decoder-block.js';
import type { Family } from './family.js';
import type { WeightReader } from './weight-reader.js';

/** Rows of the position table before that of position 0: the original padded with them. */
const POSITION_OFFSET = 2;

/** Of every LayerNorm; config.json has no setting for it. */
const EPSILON = 1e-5;

const schema = z.object({
  model_type: z.string(),
  vocab_size: count,
  hidden_size: count,
  ffn_dim: count,
  num_hidden_layers: count,
  num_attention_heads: count,
  max_position_embeddings: count,
  activation_function: z.string().default('relu'),
  do_layer_norm_before: z.boolean().default(true),
  word_embed_proj_dim: count.nullish(),
  enable_bias: z.boolean().default(true),
  layer_norm_elementwise_affine: z.boolean().default(true),
  _remove_final_layer_norm: z.boolean().default(false),
  tie_word_embeddings: flag,
});

type OptSource = z.output<typeof schema>;

function parse(input: Readonly<Record<string, unknown>>): OptSource {
  const source = parseSource(schema, input);
  if (!source.do_layer_norm_before) {
    const why = 'the norms then follow the sums, as in OPT-350m, and no norm stands between the residual stream and what reads it';
    throw unsupported('do_layer_norm_before false', `${why}; use OPT of another size`);
  }
  const { word_embed_proj_dim: embedded = source.hidden_size } = source;
  if (embedded != null && embedded !== source.hidden_size) {
    const why = `embeddings of another width than hidden_size ${source.hidden_size} need projections in and out, which are not computed`;
    throw unsupported(`word_embed_proj_dim ${embedded}`, why);
  }
  requireSupported('layer_norm_elementwise_affine', source.layer_norm_elementwise_affine, [true]);
  requireSupported('_remove_final_layer_norm', source._remove_final_layer_norm, [false]);
  return source;
}

export const opt: Family = (input) => {
  const source = parse(input);
  const headCount = source.num_attention_heads;
  const geometry = { headCount, keyValueHeadCount: headCount, headDim: dividedHeads(source.hidden_size, headCount) };
  const config: ModelConfig = {
    architecture: source.model_type,
    vocabularySize: source.vocab_size,
    hiddenSize: source.hidden_size,
    blockCount: source.num_hidden_layers,
    ...geometry,
    contextLength: source.max_position_embeddings,
    tiedEmbeddings: source.tie_word_embeddings ?? true,
    source: input,
  };
  const design = designOf(source);
  const settings: BlockSettings = { ...geometry, positions: new StreamPositions() };
  return {
    config,
    build: (weights) => {
      // The first checkpoints were saved without their head, whose names lack the first prefix.
      const root = weights.has('decoder.embed_tokens.weight') ? 'decoder' : 'model.decoder';
      const layout: CheckpointLayout = {
        embedding: { weight: `${root}.embed_tokens.weight`, positions: `${root}.embed_positions.weight` },
        norm: `${root}.final_layer_norm`,
        head: 'lm_head',
        isTiedByDefault: true,
        isTransposed: false,
      };
      const embedding = weights.embedding({
        name: layout.embedding.weight,
        vocabularySize: source.vocab_size,
        width: source.hidden_size,
        positions: { name: layout.embedding.positions, count: source.max_position_embeddings, offset: POSITION_OFFSET },
      });
      return {
        embedding,
        blocks: Array.from({ length: source.num_hidden_layers }, (_, index) =>
          readBlock(weights, `${root}.layers.${index}`, source, design, settings),
        ),
        norm: weights.layerNorm(layout.norm, { size: source.hidden_size, epsilon: EPSILON }),
        head: weights.head(layout.head, embedding, config.tiedEmbeddings ? layout.embedding.weight : undefined),
        layout,
      };
    },
  };
};

function designOf({ activation_function }: OptSource): BlockDesign {
  const activation = activationOf(activation_function);
  return {
    attention: {
      norm: 'self_attn_layer_norm',
      inputs: ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'],
      output: 'self_attn.out_proj',
    },
    mlp: { norm: 'final_layer_norm', inputs: ['fc1'], output: 'fc2', activate: ([x]) => activation(x) },
  };
}

function readBlock(weights: WeightReader, path: string, source: OptSource, design: BlockDesign, settings: BlockSettings): DecoderBlock {
  const { hidden_size: width, ffn_dim: inner, enable_bias: hasBias } = source;
  const linear = (name: string, inFeatures: number, outFeatures: number): [string, Linear] => [
    name,
    weights.linear(`${path}.${name}`, { inFeatures, outFeatures, hasBias }),
  ];
  const norm = (name: string): [string, Norm] => [name, weights.layerNorm(`${path}.${name}`, { size: width, epsilon: EPSILON })];
  const { attention, mlp } = design;
  return new DecoderBlock(design, settings, {
    path,
    linears: Object.fromEntries([
      ...[...attention.inputs, attention.output].map((name) => linear(name, width, width)),
      ...mlp.inputs.map((name) => linear(name, width, inner)),
      linear(mlp.output, inner, width),
    ]),
    norms: Object.fromEntries([norm(attention.norm), norm(mlp.norm)]),
    keyValues: weights.keyValues(path),
  });
}
