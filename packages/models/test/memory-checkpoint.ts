// Random checkpoints in memory, with their weights at hand: of any shapes, and of Llama's families.
import { createRng, type LinearState, LowbitError, lazyTensor, type Shape, sizeOf } from '@lowbit/core';
import type { Checkpoint } from '@lowbit/formats';

export interface MemoryCheckpoint extends Checkpoint {
  /** Elements by tensor name. */
  readonly weights: Map<string, Float32Array>;
  /** Names of tensors in the order in which their elements were fetched. */
  readonly reads: string[];
}

/** A config.json of the smallest size at which every part still has a shape of its own. */
export const smallConfig = {
  model_type: 'llama',
  vocab_size: 37,
  hidden_size: 24,
  intermediate_size: 40,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 256,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  hidden_act: 'silu',
  tie_word_embeddings: false,
};

export type SmallConfig = typeof smallConfig & Record<string, unknown>;

/** Shapes of all tensors that transformers writes for a config; `biased` names Linears with a bias. */
export function tensorShapes(config: SmallConfig, biased: readonly string[] = []): Map<string, Shape> {
  const width = config.hidden_size;
  const headDim = (config.head_dim as number | undefined) ?? width / config.num_attention_heads;
  const heads = config.num_attention_heads * headDim;
  const keyValueHeads = config.num_key_value_heads * headDim;
  const inner = config.intermediate_size;
  const shapes = new Map<string, Shape>([
    ['model.embed_tokens.weight', [config.vocab_size, width]],
    ['model.norm.weight', [width]],
  ]);
  if (!config.tie_word_embeddings) shapes.set('lm_head.weight', [config.vocab_size, width]);
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const linears: readonly [string, number, number][] = [
      ['self_attn.q_proj', heads, width],
      ['self_attn.k_proj', keyValueHeads, width],
      ['self_attn.v_proj', keyValueHeads, width],
      ['self_attn.o_proj', width, heads],
      ['mlp.gate_proj', inner, width],
      ['mlp.up_proj', inner, width],
      ['mlp.down_proj', width, inner],
    ];
    for (const [name, out, inputs] of linears) {
      shapes.set(`model.layers.${layer}.${name}.weight`, [out, inputs]);
      if (biased.includes(name)) shapes.set(`model.layers.${layer}.${name}.bias`, [out]);
    }
    for (const name of ['input_layernorm', 'post_attention_layernorm']) shapes.set(`model.layers.${layer}.${name}.weight`, [width]);
    if (config.model_type !== 'qwen3') continue;
    for (const name of ['q_norm', 'k_norm']) shapes.set(`model.layers.${layer}.self_attn.${name}.weight`, [headDim]);
  }
  return shapes;
}

/** A checkpoint of random weights, large enough that attention is far from uniform. */
export function randomCheckpoint(config: SmallConfig, { biased = [] as readonly string[], seed = 1 } = {}): MemoryCheckpoint {
  return randomCheckpointOf(config, tensorShapes(config, biased), seed);
}

/** The same for tensors of any names and shapes. */
export function randomCheckpointOf(config: Record<string, unknown>, shapes: ReadonlyMap<string, Shape>, seed = 1): MemoryCheckpoint {
  const rng = createRng(seed);
  const weights = new Map([...shapes].map(([name, shape]) => [name, randomWeights(rng.at(name), name, shape)]));
  return memoryCheckpoint(config, weights, shapes);
}

function randomWeights(rng: ReturnType<typeof createRng>, name: string, shape: Shape): Float32Array {
  const normal = rng.normal(sizeOf(shape));
  if (name.endsWith('.bias')) return normal.map((z) => 0.5 * z);
  if (shape.length === 1) return normal.map((z) => 1 + 0.2 * z); // of a norm
  return normal.map((z) => (1.5 * z) / Math.sqrt(shape[1]));
}

export function memoryCheckpoint(
  config: Record<string, unknown>,
  weights: Map<string, Float32Array>,
  shapes: ReadonlyMap<string, Shape>,
  linears: ReadonlyMap<string, LinearState> = new Map(),
): MemoryCheckpoint {
  const reads: string[] = [];
  return {
    path: 'memory',
    config,
    weights,
    reads,
    linears,
    entries: new Map([...shapes].map(([name, shape]) => [name, { shape, dtype: 'F32' }])),
    tensor(name) {
      const data = weights.get(name);
      if (!data) throw new LowbitError('TENSOR_MISSING', name);
      return lazyTensor(shapes.get(name) as Shape, 'float32', () => {
        reads.push(name);
        return data;
      });
    },
    storedBits: () => 32,
    tokenizer: async () => undefined,
    sideFiles: new Map(),
    provenance: {},
  };
}
