// A small random Llama-like model over core alone: fast on the reference backend, the same weights for the same seed.
import { createHash } from 'node:crypto';
import {
  type AttentionCache,
  type AttentionLayout,
  add,
  attention,
  type Block,
  type BlockParts,
  type BlockTrace,
  concat,
  createRng,
  type DecodeResult,
  DenseLinear,
  Embedding,
  gather,
  type Linear,
  type LinearGroup,
  LowbitError,
  lazyTensor,
  less,
  Model,
  matmul,
  mul,
  Norm,
  pad,
  range,
  reshape,
  rope,
  silu,
  slice,
  softmax,
  type Tensor,
  type TensorMap,
  type TokenBatches,
  tensor,
  transpose,
  where,
} from '@lowbit/core';

export interface ToyModelOptions {
  /** Default: 0. */
  readonly seed?: number;
  /** Default: 64. */
  readonly vocabularySize?: number;
  /** Default: 32. */
  readonly hiddenSize?: number;
  /** Width of the gated MLP. Default: 48, which is 2^4·3 and no power of two. */
  readonly innerSize?: number;
  /** Default: 2. */
  readonly blockCount?: number;
  /** Default: 4. */
  readonly headCount?: number;
  /** Default: 2. */
  readonly keyValueHeadCount?: number;
  /** Positions that the rotary tables cover. Default: 32. */
  readonly contextLength?: number;
  /** Biases on q, k and v, as Qwen2 has them. Default: false. */
  readonly biases?: boolean;
  /** The head shares the embedding's weight. Default: false. */
  readonly tiedEmbeddings?: boolean;
  /** Residual channels whose activations are some twenty times the others', as large models have them. Default: 0. */
  readonly outliers?: number;
  /** Called with a weight's name each time its elements are fetched; the weights are then lazy, as if they lay in a file. */
  readonly onLoad?: (name: string) => void;
}

interface Geometry {
  readonly headCount: number;
  readonly keyValueHeadCount: number;
  readonly headDim: number;
  /** Rotary tables, [positions, headDim / 2]. */
  readonly cos: Tensor;
  readonly sin: Tensor;
}

const groups: readonly LinearGroup[] = [
  {
    name: 'attention',
    linears: ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'],
    reads: { norm: 'input_layernorm' },
    writesResidual: false,
  },
  { name: 'attention-output', linears: ['self_attn.o_proj'], reads: { activation: 'heads' }, writesResidual: true },
  { name: 'mlp', linears: ['mlp.gate_proj', 'mlp.up_proj'], reads: { norm: 'post_attention_layernorm' }, writesResidual: false },
  { name: 'mlp-output', linears: ['mlp.down_proj'], reads: { activation: 'mlp' }, writesResidual: true },
];

/** Masked attention scores: far below any score, and finite so that 0 · mask stays 0. */
const HIDDEN = -1e30;

class ToyBlock implements Block {
  readonly path: string;
  readonly linears: Readonly<Record<string, Linear>>;
  readonly norms: Readonly<Record<string, Norm>>;
  readonly groups = groups;
  readonly attention: AttentionLayout;
  /** Keys and values are never rounded here. */
  readonly keyValues = undefined;
  readonly #geometry: Geometry;

  constructor(path: string, parts: Required<Pick<BlockParts, 'linears' | 'norms'>>, geometry: Geometry) {
    const { headCount, keyValueHeadCount, headDim } = geometry;
    const [query, key, value] = ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'];
    this.attention = { query, key, value, output: 'self_attn.o_proj', headCount, keyValueHeadCount, headDim };
    this.path = path;
    this.linears = parts.linears;
    this.norms = parts.norms;
    this.#geometry = geometry;
  }

  forward(x: Tensor): Tensor {
    return this.trace(x).output;
  }

  trace(x: Tensor): BlockTrace {
    const { attentionInput, heads } = this.#attend(x);
    return this.#finish(x, attentionInput, heads);
  }

  prefill(x: Tensor): DecodeResult {
    const { attentionInput, heads, keys, values } = this.#attend(x);
    return { output: this.#finish(x, attentionInput, heads).output, keys, values };
  }

  decode(x: Tensor, cache: AttentionCache, position: Tensor): DecodeResult {
    const { cos, sin, headCount, keyValueHeadCount, headDim } = this.#geometry;
    const batch = x.shape[0];
    const capacity = cache.keys.shape[2];
    const [q, k, values] = this.#project(this.norms['input_layernorm'].forward(x));
    const at = reshape(position, [position.size]);
    const [cosine, sine] = [gather(cos, at), gather(sin, at)];
    // Rows with a position each stand where tokens do.
    const swap = (y: Tensor): Tensor => (position.rank === 0 ? y : transpose(y, [2, 1, 0, 3]));
    const rotate = (y: Tensor): Tensor => swap(rope(swap(y), cosine, sine));
    const keys = rotate(k);
    const queries = reshape(rotate(q), [batch, keyValueHeadCount, headCount / keyValueHeadCount, headDim]);
    const scores = mul(matmul(queries, concat([cache.keys, keys], 2), { transposeB: true }), 1 / Math.sqrt(headDim));
    const filled = position.rank === 0 ? position : reshape(position, [batch, 1, 1, 1]);
    const mask = pad(where(less(range(capacity), filled), 0, HIDDEN), -1, 0, 1);
    const heads = matmul(softmax(add(scores, mask)), concat([cache.values, values], 2));
    const { output } = this.#finish(x, x, reshape(heads, [batch, 1, headCount * headDim]));
    return { output, keys, values };
  }

  with(parts: BlockParts): ToyBlock {
    requireKnown(this.path, parts.linears, this.linears);
    requireKnown(this.path, parts.norms, this.norms);
    if (parts.keyValues)
      throw new LowbitError('BLOCK_PART', `${this.path}: a toy block does not round keys and values; use a model of @lowbit/models`);
    const merged = { linears: { ...this.linears, ...parts.linears }, norms: { ...this.norms, ...parts.norms } };
    return new ToyBlock(this.path, merged, this.#geometry);
  }

  map(map: TensorMap): ToyBlock {
    const mapEach = <T extends { map(map: TensorMap): T }>(trees: Readonly<Record<string, T>>): Record<string, T> =>
      Object.fromEntries(Object.entries(trees).map(([name, tree]) => [name, tree.map((t, field) => map(t, `${name}.${field}`))]));
    return new ToyBlock(this.path, { linears: mapEach(this.linears), norms: mapEach(this.norms) }, this.#geometry);
  }

  /** Causal attention over positions 0 …, as far as what the output projection reads. */
  #attend(x: Tensor): { attentionInput: Tensor; heads: Tensor; keys: Tensor; values: Tensor } {
    const { cos, sin, headDim } = this.#geometry;
    const [batch, tokens] = x.shape;
    const attentionInput = this.norms['input_layernorm'].forward(x);
    const [q, k, values] = this.#project(attentionInput);
    const [cosines, sines] = [slice(cos, 0, 0, tokens), slice(sin, 0, 0, tokens)];
    const keys = rope(k, cosines, sines);
    const heads = transpose(attention(rope(q, cosines, sines), keys, values), [0, 2, 1, 3]);
    return { attentionInput, heads: reshape(heads, [batch, tokens, q.shape[1] * headDim]), keys, values };
  }

  /** Queries, keys and values, [batch, heads, tokens, headDim], before rotation. */
  #project(input: Tensor): [Tensor, Tensor, Tensor] {
    const { headCount, keyValueHeadCount, headDim } = this.#geometry;
    const [batch, tokens] = input.shape;
    const project = (name: string, heads: number): Tensor =>
      transpose(reshape(this.linears[name].forward(input), [batch, tokens, heads, headDim]), [0, 2, 1, 3]);
    return [
      project('self_attn.q_proj', headCount),
      project('self_attn.k_proj', keyValueHeadCount),
      project('self_attn.v_proj', keyValueHeadCount),
    ];
  }

  /** From the heads' output to the block's: output projection, residual, MLP, residual. */
  #finish(x: Tensor, attentionInput: Tensor, headOutput: Tensor): BlockTrace {
    const attended = add(x, this.linears['self_attn.o_proj'].forward(headOutput));
    const mlpInput = this.norms['post_attention_layernorm'].forward(attended);
    const gated = mul(silu(this.linears['mlp.gate_proj'].forward(mlpInput)), this.linears['mlp.up_proj'].forward(mlpInput));
    return {
      output: add(attended, this.linears['mlp.down_proj'].forward(gated)),
      inputs: { attention: attentionInput, 'attention-output': headOutput, mlp: mlpInput, 'mlp-output': gated },
      normInputs: { input_layernorm: x, post_attention_layernorm: attended },
    };
  }
}

function requireKnown(path: string, given: Readonly<Record<string, unknown>> | undefined, known: Readonly<Record<string, unknown>>): void {
  const unknown = Object.keys(given ?? {}).filter((name) => !(name in known));
  if (unknown.length > 0)
    throw new LowbitError('BLOCK_PART', `${path}: has no ${unknown.join(', ')}; it has ${Object.keys(known).join(', ')}`);
}

/** cos and sin of position · 10000^(−2i/D). */
function rotaryTables(positions: number, headDim: number): Pick<Geometry, 'cos' | 'sin'> {
  const half = headDim / 2;
  const angles = Array.from({ length: positions * half }, (_, i) => Math.floor(i / half) * 10000 ** (-(i % half) / half));
  return { cos: tensor(angles.map(Math.cos), [positions, half]), sin: tensor(angles.map(Math.sin), [positions, half]) };
}

/** A random model of the Llama shape: RMS norm, rotary positions, grouped key-value heads, gated MLP. Its predictions mean nothing. */
export function createToyModel(options: ToyModelOptions = {}): Model {
  const { seed = 0, vocabularySize = 64, hiddenSize = 32, innerSize = 48, blockCount = 2, headCount = 4, keyValueHeadCount = 2 } = options;
  const { contextLength = 32, biases = false, tiedEmbeddings = false, outliers = 0, onLoad } = options;
  const headDim = hiddenSize / headCount;
  const rng = createRng(seed).at('toy-model');

  const leaf = (name: string, shape: readonly number[], values: Float32Array): Tensor =>
    onLoad
      ? lazyTensor(shape, 'float32', () => {
          onLoad(name);
          return values;
        })
      : tensor(values, shape);
  const normal = (name: string, shape: readonly number[], deviation: number, mean = 0): Tensor => {
    const size = shape.reduce((a, b) => a * b, 1);
    return leaf(
      name,
      shape,
      rng
        .at(name)
        .normal(size)
        .map((z) => mean + deviation * z),
    );
  };
  const linear = (path: string, outFeatures: number, inFeatures: number, hasBias = false): DenseLinear =>
    new DenseLinear(
      normal(`${path}.weight`, [outFeatures, inFeatures], 1 / Math.sqrt(inFeatures)),
      hasBias ? normal(`${path}.bias`, [outFeatures], 0.5) : undefined,
    );
  const norm = (path: string): Norm => new Norm('rms', hiddenSize, 1e-5, normal(`${path}.weight`, [hiddenSize], 0.2, 1));

  const geometry = { headCount, keyValueHeadCount, headDim, ...rotaryTables(contextLength, headDim) };
  const block = (index: number): Block => {
    const path = `model.layers.${index}`;
    const at = (name: string, outFeatures: number, inFeatures: number, hasBias = false): [string, DenseLinear] => [
      name,
      linear(`${path}.${name}`, outFeatures, inFeatures, hasBias),
    ];
    const linears = Object.fromEntries([
      at('self_attn.q_proj', headCount * headDim, hiddenSize, biases),
      at('self_attn.k_proj', keyValueHeadCount * headDim, hiddenSize, biases),
      at('self_attn.v_proj', keyValueHeadCount * headDim, hiddenSize, biases),
      at('self_attn.o_proj', hiddenSize, headCount * headDim),
      at('mlp.gate_proj', innerSize, hiddenSize),
      at('mlp.up_proj', innerSize, hiddenSize),
      at('mlp.down_proj', hiddenSize, innerSize),
    ]);
    const norms = {
      input_layernorm: norm(`${path}.input_layernorm`),
      post_attention_layernorm: norm(`${path}.post_attention_layernorm`),
    };
    return new ToyBlock(path, { linears, norms }, geometry);
  };

  const embedded = rng.at('model.embed_tokens.weight').normal(vocabularySize * hiddenSize);
  const loud = new Set(rng.at('outliers').permutation(hiddenSize).subarray(0, outliers));
  const embedding = new Embedding(
    leaf(
      'model.embed_tokens.weight',
      [vocabularySize, hiddenSize],
      embedded.map((z, i) => (loud.has(i % hiddenSize) ? 20 * z : z)),
    ),
  );
  return new Model({
    config: {
      architecture: 'toy',
      vocabularySize,
      hiddenSize,
      blockCount,
      headCount,
      keyValueHeadCount,
      headDim,
      contextLength,
      tiedEmbeddings,
      source: {},
    },
    embedding,
    blocks: Array.from({ length: blockCount }, (_, index) => block(index)),
    norm: norm('model.norm'),
    head: tiedEmbeddings ? new DenseLinear(embedding.weight) : linear('lm_head', vocabularySize, hiddenSize),
  });
}

export interface ToyTokensOptions {
  /** Default: 0. */
  readonly seed?: number;
  /** Default: 3. */
  readonly batchCount?: number;
  /** Windows a batch. Default: 2. */
  readonly batchSize?: number;
  /** Tokens a window. Default: 12. */
  readonly tokens?: number;
  /** Default: 64. */
  readonly vocabularySize?: number;
}

/** Random token windows for a toy model. */
export function createToyTokens(options: ToyTokensOptions = {}): TokenBatches {
  const { seed = 0, batchCount = 3, batchSize = 2, tokens = 12, vocabularySize = 64 } = options;
  const hash = createHash('sha256');
  const batches = Array.from({ length: batchCount }, (_, index) => {
    const ids = createRng(seed)
      .at('toy-tokens', index)
      .integers(batchSize * tokens, vocabularySize);
    hash.update(ids);
    return tensor(ids, [batchSize, tokens]);
  });
  return {
    length: batchCount,
    hash: hash.digest('hex'),
    description: `random tokens, ${batchCount * batchSize} windows of ${tokens}, seed ${seed}`,
    at: async (index) => batches[index],
  };
}
