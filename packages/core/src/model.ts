// A model: embed → blocks → norm → head. Immutable; tensors at the leaves are read when touched.
import type { Block } from './block.js';
import type { Embedding } from './embedding.js';
import { LowbitError } from './errors.js';
import type { Linear, TensorMap } from './linear.js';
import type { Norm } from './norm.js';
import { read, type Tensor, tensor } from './tensor.js';

/** What is known of a model besides its weights. */
export interface ModelConfig {
  /** Family as in the checkpoint's config.json: 'llama', 'qwen3', 'gpt2'. */
  readonly architecture: string;
  readonly vocabularySize: number;
  readonly hiddenSize: number;
  readonly blockCount: number;
  readonly headCount: number;
  readonly keyValueHeadCount: number;
  readonly headDim: number;
  /** Longest sequence the model was trained for, in tokens. */
  readonly contextLength: number;
  readonly tiedEmbeddings: boolean;
  /** The checkpoint's config.json, unchanged, so that what is saved can be loaded elsewhere. */
  readonly source: Readonly<Record<string, unknown>>;
}

/**
 * How a model's tensors are called and laid out in checkpoints of its family. Blocks and what is in them carry names of their own.
 */
export interface CheckpointLayout {
  /** Names of the embedding's tensors: `weight`, and `positions` where they are learned. */
  readonly embedding: Readonly<Record<string, string>>;
  /** Path of the last norm. */
  readonly norm: string;
  /** Path of the head. */
  readonly head: string;
  /** Whether the head is the embedding's own weight where config.json has no `tie_word_embeddings`. */
  readonly isTiedByDefault: boolean;
  /** Whether weights of the blocks' dense Linears are stored [in, out] (GPT-2's Conv1D). In memory they are [out, in]. */
  readonly isTransposed: boolean;
}

/** Llama's, which most families share. */
const LLAMA_LAYOUT: CheckpointLayout = {
  embedding: { weight: 'model.embed_tokens.weight' },
  norm: 'model.norm',
  head: 'lm_head',
  isTiedByDefault: false,
  isTransposed: false,
};

export interface ModelParts {
  readonly config: ModelConfig;
  readonly embedding: Embedding;
  readonly blocks: readonly Block[];
  readonly norm: Norm;
  readonly head: Linear;
  /** Default: Llama's. */
  readonly layout?: CheckpointLayout | undefined;
}

/** A decoder-only language model. */
export class Model implements ModelParts {
  readonly config: ModelConfig;
  readonly embedding: Embedding;
  readonly blocks: readonly Block[];
  readonly norm: Norm;
  readonly head: Linear;
  readonly layout: CheckpointLayout;

  constructor(parts: ModelParts) {
    this.config = parts.config;
    this.embedding = parts.embedding;
    this.blocks = parts.blocks;
    this.norm = parts.norm;
    this.head = parts.head;
    this.layout = parts.layout ?? LLAMA_LAYOUT;
  }

  /** Width of the residual stream: the config's hidden size, or more once a transform has widened it. */
  get width(): number {
    return this.embedding.weight.shape[1];
  }

  /** int32 [batch, tokens] → logits [batch, tokens, vocabulary]. */
  forward(tokens: Tensor): Tensor {
    let x = this.embedding.forward(tokens);
    for (const block of this.blocks) x = block.forward(x);
    return this.logits(x);
  }

  /** Residual stream [..., width] → logits [..., vocabulary]. */
  logits(x: Tensor): Tensor {
    return this.head.forward(this.norm.forward(x));
  }

  with(parts: Partial<ModelParts>): Model {
    const { config, embedding, blocks, norm, head, layout } = this;
    return new Model({ config, embedding, blocks, norm, head, layout, ...parts });
  }

  /** The model with block `index` replaced. */
  withBlock(index: number, block: Block): Model {
    return this.with({ blocks: this.blocks.map((old, i) => (i === index ? block : old)) });
  }

  /** Rebuilds every tensor; one that occurs twice (tied embeddings) is mapped once and stays shared. */
  map(map: TensorMap): Model {
    const once = mapOnce(map);
    const { layout } = this;
    return this.with({
      embedding: this.embedding.map((t, name) => once(t, layout.embedding[name])),
      blocks: this.blocks.map((block) => block.map((t, name) => once(t, `${block.path}.${name}`))),
      norm: this.norm.map((t, name) => once(t, `${layout.norm}.${name}`)),
      head: this.head.map((t, name) => once(t, `${layout.head}.${name}`)),
    });
  }
}

function mapOnce(map: TensorMap): TensorMap {
  const seen = new Map<Tensor, Tensor>();
  return (from, name) => {
    let to = seen.get(from);
    if (!to) seen.set(from, (to = map(from, name)));
    return to;
  };
}

/** A tree of tensors: a Linear, a Norm, a Block, a Model. */
interface Mappable<T> {
  map(map: TensorMap): T;
}

/** Every tensor of a tree by name, shared ones once. */
export function tensorsOf(tree: Mappable<unknown>): Map<string, Tensor> {
  const found = new Map<string, Tensor>();
  const seen = new Set<Tensor>();
  tree.map((t, name) => {
    if (!seen.has(t)) found.set(name, t);
    seen.add(t);
    return t;
  });
  return found;
}

/** The tree with every lazy leaf read into host memory, once. Use it before touching the same weights many times. */
export async function materialize<T extends Mappable<T>>(tree: T): Promise<T> {
  const loaded = new Map<Tensor, Tensor>();
  for (const [name, t] of tensorsOf(tree)) {
    if (!t.isLeaf) throw new LowbitError('TENSOR_NOT_EVALUATED', `${name}: is an expression; evaluate it before materializing the tree`);
    const source = t.source;
    if (source.kind === 'leaf' && source.data) continue;
    loaded.set(t, tensor(await read(t), t.shape, t.dtype));
  }
  return tree.map((t) => loaded.get(t) ?? t);
}
