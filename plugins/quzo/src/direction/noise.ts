// Random numbers by key and index, in bulk: element i of a stream is a hash of i, so that any part can be drawn alone and in any order.
import type { StreamKey } from '../hooks.js';
import { normalTable } from './normal-table.js';

/** A bijection of 32-bit words in which every bit of the input moves every bit of the output: the finalizer of MurmurHash3 (A. Appleby). */
export function mix(x: number): number {
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return x ^ (x >>> 16);
}

/** Word `index` of a stream: 32 random bits, as a signed integer. */
export function wordAt(low: number, high: number, index: number): number {
  return mix(mix(index ^ low) + high);
}

/** Number `index` of a stream in [0, 1), 32 bits. */
export function uniformAt({ low, high }: StreamKey, index: number): number {
  return (wordAt(low, high, index) >>> 0) * 2 ** -32;
}

/** −1 and +1 for the bits of a nibble, four bytes to a word, in the byte order of this machine. */
const nibbleSigns = new Int32Array(Int8Array.from({ length: 64 }, (_, i) => (((i >>> 2) >>> (i & 3)) & 1 ? 1 : -1)).buffer);

/**
 * −1 or +1 for elements start … start + out.length − 1 of a stream: a bit each.
 * @param start a multiple of 32.
 */
export function fillSigns({ low, high }: StreamKey, out: Int8Array, start = 0): void {
  const whole = out.byteOffset % 4 === 0 ? out.length >>> 5 : 0;
  const words = whole > 0 ? new Int32Array(out.buffer, out.byteOffset, whole * 8) : nibbleSigns;
  const first = start >>> 5;
  for (let w = 0, at = 0; w < whole; w++, at += 8) {
    const bits = wordAt(low, high, first + w);
    for (let nibble = 0; nibble < 8; nibble++) words[at + nibble] = nibbleSigns[(bits >>> (4 * nibble)) & 15];
  }
  for (let i = whole * 32; i < out.length; i++) out[i] = (wordAt(low, high, first + (i >>> 5)) >>> (i & 31)) & 1 ? 1 : -1;
}

/**
 * Standard normal numbers start … start + out.length − 1 of a stream, 16 random bits each (`normalTable`).
 * @param start an even number.
 */
export function fillNormals({ low, high }: StreamKey, out: Float32Array, start = 0): void {
  const table = normalTable();
  const pairs = out.length >>> 1;
  for (let pair = 0, i = 0; pair < pairs; pair++, i += 2) {
    const word = wordAt(low, high, (start >>> 1) + pair);
    out[i] = table[word & 0xffff];
    out[i + 1] = table[word >>> 16];
  }
  if (out.length & 1) out[out.length - 1] = table[wordAt(low, high, (start >>> 1) + pairs) & 0xffff];
}
