// A fingerprint of a model's tensors, so that a log is not replayed on another model.
import { type Model, read, tensorsOf } from '@lowbit/core';
import { mix } from '../direction/noise.js';

/** 64 bits over names and elements of all tensors, in hexadecimal. Not cryptographic. */
export async function digestOf(model: Model): Promise<string> {
  let [low, high] = [0, 0];
  const take = (words: ArrayLike<number>): void => {
    for (let i = 0; i < words.length; i++) {
      high = mix((high ^ words[i]) + low);
      low = (Math.imul(low, 0x01000193) + high) | 0;
    }
  };
  for (const [name, t] of tensorsOf(model)) {
    const { buffer, byteOffset, byteLength } = await read(t);
    const whole = byteOffset % 4 === 0 ? byteLength >>> 2 : 0;
    take([name.length, byteLength]);
    take(Array.from(name, (character) => character.charCodeAt(0)));
    take(new Int32Array(buffer, whole === 0 ? 0 : byteOffset, whole));
    take(new Uint8Array(buffer, byteOffset + 4 * whole, byteLength - 4 * whole));
  }
  return [low, high].map((word) => (word >>> 0).toString(16).padStart(8, '0')).join('');
}
