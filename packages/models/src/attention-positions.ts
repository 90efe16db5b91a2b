// How attention knows where tokens stand: by rotating queries and keys (frequencies under each scaling), or not at all.
import { gather, range, reshape, rope, type Tensor, tensor, transpose } from '@lowbit/core';

/** Turns queries or keys [batch, heads, tokens, headDim] by their positions. */
export type Rotate = (x: Tensor) => Tensor;

/** Positions within attention. What is shared by all blocks of a model, so that blocks that are evaluated together feed the same leaves. */
export interface AttentionPositions {
  /** int32 [length]: 0, 1, 2, … */
  indices(length: number): Tensor;
  /** Tokens at positions 0 … tokens − 1. */
  fromStart(tokens: number): Rotate;
  /** One token of each row at `position`, int32 [] or [batch], of at most `capacity`. */
  at(position: Tensor, capacity: number): Rotate;
}

/** How the frequencies are changed for contexts longer than the model was trained for. */
export type RotaryScaling =
  | { readonly type: 'default' }
  /** Positions divided by `factor` (arXiv 2306.15595). */
  | { readonly type: 'linear'; readonly factor: number }
  /** Llama 3.1: wavelengths beyond the original context are stretched by `factor`, short ones kept, those between blended. */
  | {
      readonly type: 'llama3';
      readonly factor: number;
      readonly lowFrequencyFactor: number;
      readonly highFrequencyFactor: number;
      readonly originalContextLength: number;
    };

export interface RotarySettings {
  readonly headDim: number;
  readonly theta: number;
  readonly scaling: RotaryScaling;
}

/** Radians per position of each rotated pair, [headDim / 2]: θ^(−2i/D) (arXiv 2104.09864, §3.2.2), scaled. */
export function rotaryFrequencies({ headDim, theta, scaling }: RotarySettings): Float64Array {
  return Float64Array.from({ length: headDim / 2 }, (_, i) => scaleFrequency(theta ** ((-2 * i) / headDim), scaling));
}

function scaleFrequency(frequency: number, scaling: RotaryScaling): number {
  switch (scaling.type) {
    case 'default':
      return frequency;
    case 'linear':
      return frequency / scaling.factor;
    case 'llama3': {
      const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalContextLength } = scaling;
      const turns = (originalContextLength * frequency) / (2 * Math.PI);
      const kept = Math.min(1, Math.max(0, (turns - low) / (high - low)));
      return frequency * (kept + (1 - kept) / factor);
    }
    default:
      return scaling satisfies never;
  }
}

/** Leaves for positions 0 … length − 1. */
interface RotaryTable {
  /** [length, headDim / 2]. */
  readonly cos: Tensor;
  readonly sin: Tensor;
  /** int32 [length]: 0, 1, 2, … */
  readonly indices: Tensor;
}

/** Values by length, made once each. */
function once<T>(make: (length: number) => T): (length: number) => T {
  const made = new Map<number, T>();
  return (length) => {
    let value = made.get(length);
    if (value === undefined) made.set(length, (value = make(length)));
    return value;
  };
}

/** Rotary positions. Angles are computed in float64 and rounded last. */
export class RotaryPositions implements AttentionPositions {
  readonly #frequencies: Float64Array;
  readonly #tables = once((length) => this.#make(length));

  constructor(settings: RotarySettings) {
    this.#frequencies = rotaryFrequencies(settings);
  }

  indices(length: number): Tensor {
    return this.#tables(length).indices;
  }

  fromStart(tokens: number): Rotate {
    const { cos, sin } = this.#tables(tokens);
    return (x) => rope(x, cos, sin);
  }

  at(position: Tensor, capacity: number): Rotate {
    const table = this.#tables(capacity + 1);
    const rows = (values: Tensor): Tensor => reshape(gather(values, position), [position.size, this.#frequencies.length]);
    const [cos, sin] = [rows(table.cos), rows(table.sin)];
    // Where each row of the batch has a position of its own, it stands where tokens do.
    const swap = (x: Tensor): Tensor => (position.rank === 0 ? x : transpose(x, [2, 1, 0, 3]));
    return (x) => swap(rope(swap(x), cos, sin));
  }

  #make(length: number): RotaryTable {
    const pairs = this.#frequencies.length;
    const shape = [length, pairs];
    const angle = (i: number): number => Math.floor(i / pairs) * this.#frequencies[i % pairs];
    const values = (f: (radians: number) => number): Tensor =>
      tensor(
        Float32Array.from({ length: length * pairs }, (_, i) => f(angle(i))),
        shape,
      );
    return { cos: values(Math.cos), sin: values(Math.sin), indices: range(length) };
  }
}

/** Positions that the residual stream carries, learned with the embedding: attention adds nothing. */
export class StreamPositions implements AttentionPositions {
  readonly #indices = once(range);

  indices(length: number): Tensor {
    return this.#indices(length);
  }

  fromStart(): Rotate {
    return (x) => x;
  }

  at(): Rotate {
    return (x) => x;
  }
}
