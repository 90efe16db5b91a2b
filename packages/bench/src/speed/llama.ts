// A Llama of random weights and any size, for benchmarks: how long a step takes does not depend on what the model says.
import { createRng, DenseLinear, Embedding, type Linear, Model, Norm, type Tensor, tensor } from '@lowbit/core';
import { type BlockSettings, DecoderBlock, llamaDesign, RotaryPositions } from '@lowbit/models';

export interface LlamaShape {
  readonly width: number;
  readonly inner: number;
  readonly blocks: number;
  readonly heads: number;
  /** Default: as many as heads. */
  readonly keyValueHeads?: number;
  /** Default: width / heads. */
  readonly headDim?: number;
  readonly vocabulary: number;
  /** Embedding and head share a weight. Default: true. */
  readonly tied?: boolean;
  /** Tokens of a window. */
  readonly context: number;
}

const rng = createRng(0);

function normal(name: string, shape: readonly number[], deviation: number): Tensor {
  const draws = rng.at(name).normal(shape.reduce((product, n) => product * n, 1));
  for (let i = 0; i < draws.length; i++) draws[i] *= deviation;
  return tensor(draws, shape);
}

/** Makes a block's Linear from its path and the shape of its weight. */
export type MakeLinear = (path: string, outFeatures: number, inFeatures: number) => Linear;

const drawn: MakeLinear = (path, outFeatures, inFeatures) => new DenseLinear(normal(path, [outFeatures, inFeatures], inFeatures ** -0.5));

export function syntheticLlama(shape: LlamaShape, makeLinear = drawn): Model {
  const { width, inner, blocks, heads, keyValueHeads = heads, headDim = width / heads, vocabulary, tied = true, context } = shape;
  const geometry = { headCount: heads, keyValueHeadCount: keyValueHeads, headDim };
  const [queries, keys] = [heads * headDim, keyValueHeads * headDim];
  const settings: BlockSettings = {
    ...geometry,
    positions: new RotaryPositions({ headDim, theta: 10000, scaling: { type: 'default' } }),
  };
  const norm = (): Norm => new Norm('rms', width, 1e-5, tensor(new Float32Array(width).fill(1)));
  const block = (index: number): DecoderBlock => {
    const path = `model.layers.${index}`;
    const linear = (name: string, outFeatures: number, inFeatures: number): [string, Linear] => [
      name,
      makeLinear(`${path}.${name}`, outFeatures, inFeatures),
    ];
    const linears = Object.fromEntries([
      linear('self_attn.q_proj', queries, width),
      linear('self_attn.k_proj', keys, width),
      linear('self_attn.v_proj', keys, width),
      linear('self_attn.o_proj', width, queries),
      linear('mlp.gate_proj', inner, width),
      linear('mlp.up_proj', inner, width),
      linear('mlp.down_proj', width, inner),
    ]);
    return new DecoderBlock(llamaDesign, settings, { path, linears, norms: { input_layernorm: norm(), post_attention_layernorm: norm() } });
  };
  const embedding = new Embedding(normal('embedding', [vocabulary, width], 0.05));
  return new Model({
    config: {
      architecture: 'llama',
      vocabularySize: vocabulary,
      hiddenSize: width,
      blockCount: blocks,
      ...geometry,
      contextLength: context,
      tiedEmbeddings: tied,
      source: {},
    },
    embedding,
    blocks: Array.from({ length: blocks }, (_, index) => block(index)),
    norm: norm(),
    head: new DenseLinear(tied ? embedding.weight : normal('head', [vocabulary, width], 0.05)),
  });
}
