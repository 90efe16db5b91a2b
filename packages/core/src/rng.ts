// Randomness with an address: a counter-based generator keyed by a path, so that no draw depends on the order of others.
// Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
import { LowbitError } from './errors.js';

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;
const TWO_TO_MINUS_32 = 2 ** -32;

/** High 32 bits of a 32×32-bit product. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = (middle & 0xffff) + aLow * bHigh;
  return (aHigh * bHigh + Math.floor(middle / 65536) + Math.floor(carry / 65536)) >>> 0;
}

/** Ten rounds of Philox4x32: writes four 32-bit words for counter (c0, c1, 0, 0) and key (k0, k1). */
export function philox(out: Uint32Array, c0: number, c1: number, k0: number, k1: number): void {
  let x0 = c0 >>> 0;
  let x1 = c1 >>> 0;
  let x2 = 0;
  let x3 = 0;
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(MULTIPLIER_0, x0);
    const low0 = Math.imul(MULTIPLIER_0, x0) >>> 0;
    const high1 = multiplyHigh(MULTIPLIER_1, x2);
    const low1 = Math.imul(MULTIPLIER_1, x2) >>> 0;
    x0 = (high1 ^ x1 ^ k0) >>> 0;
    x1 = low1;
    x2 = (high0 ^ x3 ^ k1) >>> 0;
    x3 = low0;
    k0 = (k0 + WEYL_0) >>> 0;
    k1 = (k1 + WEYL_1) >>> 0;
  }
  out[0] = x0;
  out[1] = x1;
  out[2] = x2;
  out[3] = x3;
}

/** Draws at one address. Equal seed and path give equal draws, whatever was drawn elsewhere. */
export interface Rng {
  /** The generator at a longer path: `rng.at('step', 3, 'model.layers.0')`. */
  at(...path: readonly (string | number)[]): Rng;
  /** `count` uniform numbers in [0, 1), 24 random bits each. */
  uniform(count: number): Float32Array;
  /** `count` standard normal numbers (Box-Muller). */
  normal(count: number): Float32Array;
  /** `count` of −1 or +1. */
  signs(count: number): Float32Array;
  /** `count` integers in [0, bound). */
  integers(count: number, bound: number): Int32Array;
  /** 0 … count−1 in random order (Fisher-Yates). */
  permutation(count: number): Int32Array;
}

/** 64-bit FNV-1a over a path element, as two 32-bit halves folded into the key by one Philox call. */
function extendKey(key: readonly [number, number], element: string | number): [number, number] {
  const text = typeof element === 'number' ? `#${element}` : `$${element}`;
  let h0 = 0x811c9dc5;
  let h1 = 0x01000193;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    h0 = Math.imul(h0 ^ code, 0x01000193) >>> 0;
    h1 = Math.imul(h1 + code, 0x85ebca6b) >>> 0;
    h1 = (h1 ^ (h1 >>> 13)) >>> 0;
  }
  const words = new Uint32Array(4);
  philox(words, h0, h1, key[0], key[1]);
  return [words[0], words[1]];
}

class PhiloxRng implements Rng {
  readonly #key: readonly [number, number];

  constructor(key: readonly [number, number]) {
    this.#key = key;
  }

  at(...path: readonly (string | number)[]): Rng {
    return new PhiloxRng(path.reduce<readonly [number, number]>(extendKey, this.#key));
  }

  #words(count: number): Uint32Array {
    const words = new Uint32Array(Math.ceil(count / 4) * 4);
    const [k0, k1] = this.#key;
    for (let i = 0; i < words.length; i += 4) philox(words.subarray(i, i + 4), i / 4, Math.floor(i / 4 / 2 ** 32), k0, k1);
    return words;
  }

  uniform(count: number): Float32Array {
    const words = this.#words(count);
    const out = new Float32Array(count);
    for (let i = 0; i < count; i++) out[i] = (words[i] >>> 8) * 2 ** -24;
    return out;
  }

  normal(count: number): Float32Array {
    const words = this.#words(count + (count & 1));
    const out = new Float32Array(count);
    for (let i = 0; i < count; i += 2) {
      const radius = Math.sqrt(-2 * Math.log((words[i] + 1) * TWO_TO_MINUS_32));
      const angle = 2 * Math.PI * words[i + 1] * TWO_TO_MINUS_32;
      out[i] = radius * Math.cos(angle);
      if (i + 1 < count) out[i + 1] = radius * Math.sin(angle);
    }
    return out;
  }

  signs(count: number): Float32Array {
    const words = this.#words(Math.ceil(count / 32));
    return Float32Array.from({ length: count }, (_, i) => ((words[i >>> 5] >>> (i & 31)) & 1 ? 1 : -1));
  }

  integers(count: number, bound: number): Int32Array {
    const words = this.#words(count);
    return Int32Array.from({ length: count }, (_, i) => Math.floor(words[i] * TWO_TO_MINUS_32 * bound));
  }

  permutation(count: number): Int32Array {
    const words = this.#words(count);
    const out = Int32Array.from({ length: count }, (_, i) => i);
    for (let i = count - 1; i > 0; i--) {
      const j = Math.floor(words[i] * TWO_TO_MINUS_32 * (i + 1));
      const swapped = out[i];
      out[i] = out[j];
      out[j] = swapped;
    }
    return out;
  }
}

/** The generator at the root of a run's seed, an integer from 0 to 2^53 − 1. @throws SEED for anything else. */
export function createRng(seed: number): Rng {
  if (!Number.isSafeInteger(seed) || seed < 0) throw new LowbitError('SEED', `a seed must be an integer from 0 to 2^53 − 1, got ${seed}`);
  return new PhiloxRng([seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0]);
}
