// The block of the Llama family: RMSNorm, grouped-query attention with rotary positions, RMSNorm, gated MLP; pre-norm residuals.
import {
  type AttentionCache,
  type AttentionLayout,
  add,
  attention,
  type Block,
  type BlockParts,
  type BlockTrace,
  type DecodeResult,
  gather,
  type KeyValueQuantization,
  type Linear,
  type LinearGroup,
  LowbitError,
  mul,
  type Norm,
  reshape,
  rope,
  silu,
  type Tensor,
  type TensorMap,
  transpose,
} from '@lowbit/core';
import { parseKeyValues, quantizeKeyValues } from '@lowbit/quant';
import { cachedAttention, type NewPosition } from './cached-attention.js';
import type { PositionTables } from './position-tables.js';

const Q = 'self_attn.q_proj';
const K = 'self_attn.k_proj';
const V = 'self_attn.v_proj';
const O = 'self_attn.o_proj';
const GATE = 'mlp.gate_proj';
const UP = 'mlp.up_proj';
const DOWN = 'mlp.down_proj';
const ATTENTION_NORM = 'input_layernorm';
const MLP_NORM = 'post_attention_layernorm';

/** Who reads what, and who writes to the residual stream, in order of computation. */
export const llamaGroups: readonly LinearGroup[] = [
  { name: 'attention', linears: [Q, K, V], reads: { norm: ATTENTION_NORM }, writesResidual: false },
  { name: 'attention-output', linears: [O], reads: { activation: 'heads' }, writesResidual: true },
  { name: 'mlp', linears: [GATE, UP], reads: { norm: MLP_NORM }, writesResidual: false },
  { name: 'mlp-output', linears: [DOWN], reads: { activation: 'mlp' }, writesResidual: true },
];

/** What a block is besides its weights. Head counts are its own: the width of the residual stream may change, theirs do not. */
export interface LlamaBlockSettings {
  readonly headCount: number;
  readonly keyValueHeadCount: number;
  readonly headDim: number;
  /** Shared by all blocks of a model. */
  readonly positions: PositionTables;
  readonly limit?: PositionLimit | undefined;
}

/** The longest sequence that a block computes as the original model does, and why no longer one. */
export interface PositionLimit {
  readonly positions: number;
  readonly reason: string;
}

export interface LlamaBlockParts {
  readonly path: string;
  readonly linears: Readonly<Record<string, Linear>>;
  readonly norms: Readonly<Record<string, Norm>>;
  /** How keys and values are rounded. Default: not at all. */
  readonly keyValues?: KeyValueQuantization | undefined;
}

/** Everything one pass over a block makes. */
interface Pass extends BlockTrace, DecodeResult {}

/** Turns queries or keys [batch, heads, tokens, headDim] by their positions. */
type Rotate = (x: Tensor) => Tensor;

export class LlamaBlock implements Block {
  readonly path: string;
  readonly linears: Readonly<Record<string, Linear>>;
  readonly norms: Readonly<Record<string, Norm>>;
  readonly groups = llamaGroups;
  readonly attention: AttentionLayout;
  readonly keyValues: KeyValueQuantization | undefined;
  readonly #settings: LlamaBlockSettings;

  /** @throws KEY_VALUES when keys and values cannot be rounded so. */
  constructor(settings: LlamaBlockSettings, { path, linears, norms, keyValues }: LlamaBlockParts) {
    const { headCount, keyValueHeadCount, headDim } = settings;
    this.path = path;
    this.linears = linears;
    this.norms = norms;
    this.attention = { query: Q, key: K, value: V, output: O, headCount, keyValueHeadCount, headDim };
    this.keyValues = keyValues && parseKeyValues(keyValues, path);
    this.#settings = settings;
  }

  forward(x: Tensor): Tensor {
    return this.#causalPass(x).output;
  }

  trace(x: Tensor): BlockTrace {
    const { output, inputs, normInputs } = this.#causalPass(x);
    return { output, inputs, normInputs };
  }

  prefill(x: Tensor): DecodeResult {
    const { output, keys, values } = this.#causalPass(x);
    return { output, keys, values };
  }

  decode(x: Tensor, cache: AttentionCache, position: Tensor): DecodeResult {
    const { headDim, positions } = this.#settings;
    const capacity = cache.keys.shape[2];
    // A full cache is read by the position after its last one.
    const table = positions.at(capacity + 1);
    const rows = (values: Tensor): Tensor => reshape(gather(values, position), [position.size, headDim / 2]);
    const [cos, sin] = [rows(table.cos), rows(table.sin)];
    // Where each row of the batch has a position of its own, it stands where tokens do.
    const swap = (y: Tensor): Tensor => (position.rank === 0 ? y : transpose(y, [2, 1, 0, 3]));
    const { indices } = positions.at(capacity);
    const rotate: Rotate = (y) => swap(rope(swap(y), cos, sin));
    const { output, keys, values } = this.#pass(x, rotate, (added) => cachedAttention(added, cache, indices, position));
    return { output, keys, values };
  }

  with(parts: BlockParts): LlamaBlock {
    const { linears = {}, norms = {} } = parts;
    this.#checkNames('Linear', this.linears, linears);
    this.#checkNames('norm', this.norms, norms);
    return new LlamaBlock(this.#settings, {
      path: this.path,
      linears: { ...this.linears, ...linears },
      norms: { ...this.norms, ...norms },
      keyValues: 'keyValues' in parts ? parts.keyValues : this.keyValues,
    });
  }

  map(map: TensorMap): LlamaBlock {
    const mapped = <T extends { map(map: TensorMap): T }>(parts: Readonly<Record<string, T>>): Record<string, T> =>
      Object.fromEntries(Object.entries(parts).map(([name, part]) => [name, part.map((t, tensorName) => map(t, `${name}.${tensorName}`))]));
    const { path, keyValues } = this;
    return new LlamaBlock(this.#settings, { path, linears: mapped(this.linears), norms: mapped(this.norms), keyValues });
  }

  #causalPass(x: Tensor): Pass {
    const { positions, limit } = this.#settings;
    const tokens = x.shape[1];
    if (limit && tokens > limit.positions) {
      throw new LowbitError(
        'POSITION_LIMIT',
        `${this.path}: ${tokens} positions are more than the ${limit.positions} that are exact: ${limit.reason}; use shorter sequences`,
      );
    }
    const { cos, sin } = positions.at(tokens);
    const rotate: Rotate = (y) => rope(y, cos, sin);
    return this.#pass(x, rotate, ({ query, keys, values }) => attention(query, keys, values));
  }

  #pass(x: Tensor, rotate: Rotate, attend: (projected: NewPosition) => Tensor): Pass {
    const { headCount, keyValueHeadCount, headDim } = this.#settings;
    const { linears, norms, keyValues } = this;
    const attentionInput = norms[ATTENTION_NORM].forward(x);
    const query = rotate(splitHeads(linears[Q].forward(attentionInput), headCount, headDim));
    const exact = {
      keys: rotate(splitHeads(linears[K].forward(attentionInput), keyValueHeadCount, headDim)),
      values: splitHeads(linears[V].forward(attentionInput), keyValueHeadCount, headDim),
    };
    const { keys, values } = keyValues ? quantizeKeyValues(exact, keyValues) : exact;
    const heads = mergeHeads(attend({ query, keys, values }));
    const attended = add(x, linears[O].forward(heads));
    const mlpInput = norms[MLP_NORM].forward(attended);
    const hidden = mul(silu(linears[GATE].forward(mlpInput)), linears[UP].forward(mlpInput));
    const output = add(attended, linears[DOWN].forward(hidden));
    const inputs = { attention: attentionInput, 'attention-output': heads, mlp: mlpInput, 'mlp-output': hidden };
    return { output, keys, values, inputs, normInputs: { [ATTENTION_NORM]: x, [MLP_NORM]: attended } };
  }

  #checkNames(what: string, known: object, given: object): void {
    for (const name of Object.keys(given)) {
      if (!(name in known)) {
        throw new LowbitError('BLOCK_PART', `${this.path}: has no ${what} '${name}'; it has ${Object.keys(known).join(', ')}`);
      }
    }
  }
}

/** [batch, tokens, heads · headDim] → [batch, heads, tokens, headDim]. */
function splitHeads(x: Tensor, heads: number, headDim: number): Tensor {
  return transpose(reshape(x, [x.shape[0], x.shape[1], heads, headDim]), [0, 2, 1, 3]);
}

/** [batch, heads, tokens, headDim] → [batch, tokens, heads · headDim]. */
function mergeHeads(x: Tensor): Tensor {
  const [batch, heads, tokens, headDim] = x.shape;
  return reshape(transpose(x, [0, 2, 1, 3]), [batch, tokens, heads * headDim]);
}
