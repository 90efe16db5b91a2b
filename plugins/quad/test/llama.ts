// Small random models of the Llama family with their weights at hand, and the context in which a transform runs.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import {
  type Backend,
  createRng,
  LowbitError,
  lazyTensor,
  type Model,
  type Shape,
  sizeOf,
  type TokenBatches,
  type TransformContext,
} from '@lowbit/core';
import { loadModel } from '@lowbit/models';
import { createToyTokens } from '@lowbit/testkit';

/** config.json, as far as the tests read it. */
export interface SmallConfig {
  readonly model_type: string;
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly num_key_value_heads: number;
  readonly head_dim?: number;
  readonly max_position_embeddings: number;
  readonly rms_norm_eps: number;
  readonly rope_theta: number;
  readonly tie_word_embeddings: boolean;
  readonly attention_bias?: boolean;
  readonly mlp_bias?: boolean;
}

export const smallConfig: SmallConfig = {
  model_type: 'llama',
  vocab_size: 29,
  hidden_size: 32,
  intermediate_size: 40,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  tie_word_embeddings: false,
};

export interface SmallModel {
  readonly config: SmallConfig;
  readonly model: Model;
  readonly weights: ReadonlyMap<string, Float32Array>;
}

const biased: Readonly<Record<string, (config: SmallConfig) => boolean>> = {
  'self_attn.q_proj': (config) => config.model_type === 'qwen2' || config.attention_bias === true,
  'self_attn.k_proj': (config) => config.model_type === 'qwen2' || config.attention_bias === true,
  'self_attn.v_proj': (config) => config.model_type === 'qwen2' || config.attention_bias === true,
  'self_attn.o_proj': (config) => config.attention_bias === true,
  'mlp.gate_proj': (config) => config.mlp_bias === true,
  'mlp.up_proj': (config) => config.mlp_bias === true,
  'mlp.down_proj': (config) => config.mlp_bias === true,
};

/** Widths of a model's parts. */
export function geometry(config: SmallConfig): { headDim: number; heads: number; keyValueHeads: number } {
  const headDim = config.head_dim ?? config.hidden_size / config.num_attention_heads;
  return { headDim, heads: config.num_attention_heads * headDim, keyValueHeads: config.num_key_value_heads * headDim };
}

function tensorShapes(config: SmallConfig): Map<string, Shape> {
  const { hidden_size: width, intermediate_size: inner, vocab_size: vocabulary } = config;
  const { heads, keyValueHeads } = geometry(config);
  const shapes = new Map<string, Shape>([
    ['model.embed_tokens.weight', [vocabulary, width]],
    ['model.norm.weight', [width]],
  ]);
  if (!config.tie_word_embeddings) shapes.set('lm_head.weight', [vocabulary, width]);
  const linears: readonly (readonly [string, number, number])[] = [
    ['self_attn.q_proj', heads, width],
    ['self_attn.k_proj', keyValueHeads, width],
    ['self_attn.v_proj', keyValueHeads, width],
    ['self_attn.o_proj', width, heads],
    ['mlp.gate_proj', inner, width],
    ['mlp.up_proj', inner, width],
    ['mlp.down_proj', width, inner],
  ];
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const path = `model.layers.${layer}`;
    for (const [name, out, inputs] of linears) {
      shapes.set(`${path}.${name}.weight`, [out, inputs]);
      if (biased[name](config)) shapes.set(`${path}.${name}.bias`, [out]);
    }
    for (const name of ['input_layernorm', 'post_attention_layernorm']) shapes.set(`${path}.${name}.weight`, [width]);
  }
  return shapes;
}

function randomWeights(name: string, shape: Shape, config: SmallConfig): Float32Array {
  const normal = createRng(1).at(name).normal(sizeOf(shape));
  if (name.includes('norm')) return normal.map((z) => 1 + 0.3 * z);
  if (name.endsWith('.bias')) return normal.map((z) => 0.5 * z);
  // A few loud channels, so that directions differ in energy.
  if (name.includes('embed')) return normal.map((z, i) => (i % config.hidden_size < 3 ? 6 * z : z));
  return normal.map((z) => (1.5 * z) / Math.sqrt(shape[1]));
}

/** A model of random weights that are read lazily; `onRead` is told which. */
export async function smallModel(config: SmallConfig, onRead?: (name: string) => void): Promise<SmallModel> {
  const shapes = tensorShapes(config);
  const weights = new Map([...shapes].map(([name, shape]) => [name, randomWeights(name, shape, config)]));
  const model = await loadModel({
    path: 'memory',
    config: { ...config },
    entries: new Map([...shapes].map(([name, shape]) => [name, { shape, dtype: 'F32' }])),
    tensor(name) {
      const data = weights.get(name);
      if (!data) throw new LowbitError('TENSOR_MISSING', name);
      return lazyTensor(shapes.get(name) as Shape, 'float32', () => {
        onRead?.(name);
        return data;
      });
    },
    storedBits: () => 32,
    linears: new Map(),
    tokenizer: async () => undefined,
    sideFiles: new Map(),
    provenance: {},
  });
  return { config, model, weights };
}

/** What a transform said. */
export interface Said {
  readonly logs: Readonly<Record<string, unknown>>[];
  readonly warnings: string[];
  readonly messages: string[];
}

/** The context of a transform, outside a run. */
export function contextOf<Options>(
  backend: Backend,
  options: Options,
  { seed = 3, calibration = tokensFor(smallConfig) } = {},
): TransformContext<Options> & Said {
  const said: Said = { logs: [], warnings: [], messages: [] };
  return {
    ...said,
    backend,
    options,
    calibration,
    rng: createRng(seed),
    signal: undefined,
    saved: undefined,
    progress: () => {},
    save: async () => {},
    log: (record) => void said.logs.push(record),
    warn(code, message) {
      said.warnings.push(code);
      said.messages.push(message);
    },
  };
}

export function tokensFor({ vocab_size: vocabularySize }: SmallConfig, more: Parameters<typeof createToyTokens>[0] = {}): TokenBatches {
  return createToyTokens({ vocabularySize, batchCount: 3, batchSize: 2, tokens: 10, ...more });
}

/** One thread: results do not depend on the machine. */
export const createBackend = (): Promise<Backend> => createOnnxBackend({ threads: 1 });
