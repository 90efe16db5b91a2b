// Rotary position embedding: its frequencies under each scaling, and the tables that all blocks of a model share.
import { range, type Tensor, tensor } from '@lowbit/core';

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
export interface PositionTable {
  /** [length, headDim / 2]. */
  readonly cos: Tensor;
  readonly sin: Tensor;
  /** int32 [length]: 0, 1, 2, … */
  readonly indices: Tensor;
}

/**
 * The tables of a model, made once a length: blocks that are evaluated together feed the same leaves. Angles are computed in
 * float64 and rounded last.
 */
export class PositionTables {
  readonly #frequencies: Float64Array;
  readonly #byLength = new Map<number, PositionTable>();

  constructor(settings: RotarySettings) {
    this.#frequencies = rotaryFrequencies(settings);
  }

  at(length: number): PositionTable {
    let table = this.#byLength.get(length);
    if (!table) this.#byLength.set(length, (table = this.#make(length)));
    return table;
  }

  #make(length: number): PositionTable {
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
