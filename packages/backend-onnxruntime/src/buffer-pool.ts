// Recycles the host memory of results whose owners have released them.
import { arrayTypes, type DType, type TypedArray } from '@lowbit/core';

/** Free buffers by type and length, up to a limit in bytes. */
export class BufferPool {
  readonly #limit: number;
  readonly #free = new Map<string, TypedArray[]>();
  #bytes = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** A buffer of `size` elements; its contents are arbitrary. */
  take(dtype: DType, size: number): TypedArray {
    const found = this.#free.get(`${dtype}${size}`)?.pop();
    if (!found) return new arrayTypes[dtype](size);
    this.#bytes -= found.byteLength;
    return found;
  }

  /** Accepts a buffer that owns its memory whole; views of others and what exceeds the limit are left to the collector. */
  give(dtype: DType, buffer: TypedArray): void {
    if (buffer.byteLength !== buffer.buffer.byteLength || this.#bytes + buffer.byteLength > this.#limit) return;
    const key = `${dtype}${buffer.length}`;
    const list = this.#free.get(key);
    if (!list) this.#free.set(key, [buffer]);
    else if (list.includes(buffer)) return;
    else list.push(buffer);
    this.#bytes += buffer.byteLength;
  }
}
