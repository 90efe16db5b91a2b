// The block of every family: norm, causal attention, norm, MLP; each half is added to the residual stream. A design says the rest.
import {
  type AttentionCache,
  type AttentionLayout,
  add,
  attention,
  type Block,
  type BlockParts,
  type BlockTrace,
  type DecodeResult,
  type KeyValueQuantization,
  type Linear,
  type LinearGroup,
  LowbitError,
  type Norm,
  reshape,
  slice,
  type Tensor,
  type TensorMap,
  transpose,
} from '@lowbit/core';
import { parseKeyValues, quantizeKeyValues } from '@lowbit/quant';
import type { Rotate } from './attention-positions.js';
import { type BlockDesign, type BlockSettings, designedGroups } from './block-design.js';
import { cachedAttention, type NewPosition } from './cached-attention.js';

export interface DecoderBlockParts {
  readonly path: string;
  readonly linears: Readonly<Record<string, Linear>>;
  readonly norms: Readonly<Record<string, Norm>>;
  /** How keys and values are rounded. Default: not at all. */
  readonly keyValues?: KeyValueQuantization | undefined;
}

/** Everything one pass over a block makes. */
interface Pass extends BlockTrace, DecodeResult {}

export class DecoderBlock implements Block {
  readonly path: string;
  readonly linears: Readonly<Record<string, Linear>>;
  readonly norms: Readonly<Record<string, Norm>>;
  readonly groups: readonly LinearGroup[];
  readonly attention: AttentionLayout;
  readonly keyValues: KeyValueQuantization | undefined;
  readonly #design: BlockDesign;
  readonly #settings: BlockSettings;

  /** @throws KEY_VALUES when keys and values cannot be rounded so. */
  constructor(design: BlockDesign, settings: BlockSettings, { path, linears, norms, keyValues }: DecoderBlockParts) {
    const { headCount, keyValueHeadCount, headDim } = settings;
    const { inputs, output } = design.attention;
    const [query, key = query, value = query] = inputs;
    this.path = path;
    this.linears = linears;
    this.norms = norms;
    this.groups = designedGroups(design);
    this.attention = { query, key, value, output, headCount, keyValueHeadCount, headDim };
    this.keyValues = keyValues && parseKeyValues(keyValues, path);
    this.#design = design;
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
    const { positions } = this.#settings;
    const capacity = cache.keys.shape[2];
    const indices = positions.indices(capacity);
    // A full cache is read by the position after its last one.
    const rotate = positions.at(position, capacity);
    const { output, keys, values } = this.#pass(x, rotate, (added) => cachedAttention(added, cache, indices, position));
    return { output, keys, values };
  }

  with(parts: BlockParts): DecoderBlock {
    const { linears = {}, norms = {} } = parts;
    this.#checkNames('Linear', this.linears, linears);
    this.#checkNames('norm', this.norms, norms);
    return new DecoderBlock(this.#design, this.#settings, {
      path: this.path,
      linears: { ...this.linears, ...linears },
      norms: { ...this.norms, ...norms },
      keyValues: 'keyValues' in parts ? parts.keyValues : this.keyValues,
    });
  }

  map(map: TensorMap): DecoderBlock {
    const mapped = <T extends { map(map: TensorMap): T }>(parts: Readonly<Record<string, T>>): Record<string, T> =>
      Object.fromEntries(Object.entries(parts).map(([name, part]) => [name, part.map((t, tensorName) => map(t, `${name}.${tensorName}`))]));
    const { path, keyValues } = this;
    return new DecoderBlock(this.#design, this.#settings, { path, linears: mapped(this.linears), norms: mapped(this.norms), keyValues });
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
    return this.#pass(x, positions.fromStart(tokens), ({ query, keys, values }) => attention(query, keys, values));
  }

  #pass(x: Tensor, rotate: Rotate, attend: (projected: NewPosition) => Tensor): Pass {
    const { linears, norms, keyValues } = this;
    const { attention, mlp } = this.#design;
    const attentionInput = norms[attention.norm].forward(x);
    const { query, ...exact } = this.#project(attentionInput, rotate);
    const { keys, values } = keyValues ? quantizeKeyValues(exact, keyValues) : exact;
    const heads = mergeHeads(attend({ query, keys, values }));
    const attended = add(x, linears[attention.output].forward(heads));
    const mlpInput = norms[mlp.norm].forward(attended);
    const hidden = mlp.activate(mlp.inputs.map((name) => linears[name].forward(mlpInput)));
    const output = add(attended, linears[mlp.output].forward(hidden));
    const inputs = { attention: attentionInput, 'attention-output': heads, mlp: mlpInput, 'mlp-output': hidden };
    return { output, keys, values, inputs, normInputs: { [attention.norm]: x, [mlp.norm]: attended } };
  }

  /** Queries, keys and values by head, at their positions. */
  #project(x: Tensor, rotate: Rotate): NewPosition {
    const { headCount, keyValueHeadCount, headDim } = this.#settings;
    const { inputs, headNorms } = this.#design.attention;
    const projected = inputs.map((name) => this.linears[name].forward(x));
    const widths = [headCount, keyValueHeadCount, keyValueHeadCount].map((heads) => heads * headDim);
    const [query, keys, values] = projected.length === 1 ? stretches(projected[0], widths) : projected;
    const heads = (y: Tensor, count: number, norm?: string): Tensor => {
      const split = splitHeads(y, count, headDim);
      return norm === undefined ? split : this.norms[norm].forward(split);
    };
    return {
      query: rotate(heads(query, headCount, headNorms?.query)),
      keys: rotate(heads(keys, keyValueHeadCount, headNorms?.key)),
      values: heads(values, keyValueHeadCount),
    };
  }

  #checkNames(what: string, known: object, given: object): void {
    for (const name of Object.keys(given)) {
      if (!(name in known)) {
        throw new LowbitError('BLOCK_PART', `${this.path}: has no ${what} '${name}'; it has ${Object.keys(known).join(', ')}`);
      }
    }
  }
}

/** Consecutive features of these widths. */
function stretches(x: Tensor, widths: readonly number[]): Tensor[] {
  let start = 0;
  return widths.map((width) => slice(x, -1, start, (start += width)));
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
