// A fingerprint of parameters, so that a log is not replayed on another model.
import { mix } from '../direction/noise.js';
import type { TrainedParameter } from '../perturbation/trained.js';

/** 64 bits over names and elements, in hexadecimal. Not cryptographic. */
export function digestOf(parameters: readonly Pick<TrainedParameter, 'parameter' | 'values'>[]): string {
  let [low, high] = [0, 0];
  const take = (byte: number): void => {
    low = Math.imul(low ^ byte, 0x01000193);
    high = mix(high + byte) ^ low;
  };
  for (const { parameter, values } of parameters) {
    for (let i = 0; i < parameter.name.length; i++) take(parameter.name.charCodeAt(i));
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    for (let i = 0; i < bytes.length; i++) take(bytes[i]);
  }
  return [low, high].map((word) => (word >>> 0).toString(16).padStart(8, '0')).join('');
}
