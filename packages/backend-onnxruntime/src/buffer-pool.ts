// Recycles the host memory of results whose owners have released them.
import { arrayTypes, type DType, type TypedArray } from '@lowbit/core';

/** Free buffers by type and length, up to a limit in bytes; one alone may be larger. */
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

  /**
   * Accepts a buffer that owns its memory whole; views of others are left to the collector. Past the limit, sizes that were not given
   * for longest go first, and the one that was given last stays: a total larger than the limit, folded over batches, is taken again at
   * once, where the collector would let several of them pile up.
   */
  give(dtype: DType, buffer: TypedArray): void {
    if (buffer.byteLength !== buffer.buffer.byteLength) return;
    const key = `${dtype}${buffer.length}`;
    const list = this.#free.get(key) ?? [];
    if (list.includes(buffer)) return;
    list.push(buffer);
    this.#free.delete(key);
    this.#free.set(key, list);
    this.#bytes += buffer.byteLength;
    this.#trim(list);
  }

  #trim(last: readonly TypedArray[]): void {
    for (const [key, list] of this.#free) {
      while (this.#bytes > this.#limit && list.length > (list === last ? 1 : 0)) this.#bytes -= list.pop()?.byteLength ?? 0;
      if (list.length === 0) this.#free.delete(key);
      if (this.#bytes <= this.#limit) return;
    }
  }
}
