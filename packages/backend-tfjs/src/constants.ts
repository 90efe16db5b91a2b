// Small tables that graphs need whatever their leaves hold: kept on the device, so that they travel once.
import { type Shape, sizeOf, type TypedArray } from '@lowbit/core';
import { bytesOf, type Device, type DeviceType, type Value } from './device.js';

/** Past it everything is dropped, between evaluations, and made anew when needed. */
const LIMIT_BYTES = 2 ** 26;

export class Constants {
  readonly #device: Device;
  readonly #kept = new Map<string, Value>();
  #bytes = 0;

  constructor(device: Device) {
    this.#device = device;
  }

  /** The table of a name. It stays this one's. */
  table(name: string, shape: Shape, dtype: DeviceType, make: () => TypedArray): Value {
    const known = this.#kept.get(name);
    if (known) return known;
    const value = this.#device.upload(make(), shape, dtype);
    this.#kept.set(name, value);
    this.#bytes += bytesOf(value);
    return value;
  }

  /** A number in every place. */
  filled(number: number, shape: Shape, dtype: DeviceType): Value {
    const name = `${Object.is(number, -0) ? '-0' : number} ${dtype}[${shape}]`;
    return this.table(name, shape, dtype, () => {
      const size = sizeOf(shape);
      if (dtype === 'float32') return new Float32Array(size).fill(number);
      return dtype === 'bool' ? new Uint8Array(size).fill(number) : new Int32Array(size).fill(number);
    });
  }

  trim(): void {
    if (this.#bytes > LIMIT_BYTES) this.clear();
  }

  clear(): void {
    for (const value of this.#kept.values()) this.#device.free(value);
    this.#kept.clear();
    this.#bytes = 0;
  }
}
