// Buffers that are used again and again.
import type { Scratch } from '../hooks.js';

/** Scratch whose buffers are all free again after `reset`. */
export interface ReusedScratch extends Scratch {
  reset(): void;
}

export function createScratch(): ReusedScratch {
  const bytes = reused((size) => new Int8Array(size));
  const floats = reused((size) => new Float32Array(size));
  return {
    int8: bytes.take,
    float32: floats.take,
    reset() {
      bytes.reset();
      floats.reset();
    },
  };
}

function reused<T extends Int8Array | Float32Array>(make: (size: number) => T): { take(size: number): T; reset(): void } {
  const bySize = new Map<number, { readonly buffers: T[]; taken: number }>();
  return {
    take(size) {
      let shelf = bySize.get(size);
      if (!shelf) bySize.set(size, (shelf = { buffers: [], taken: 0 }));
      if (shelf.taken === shelf.buffers.length) shelf.buffers.push(make(size));
      return shelf.buffers[shelf.taken++];
    },
    reset() {
      for (const shelf of bySize.values()) shelf.taken = 0;
    },
  };
}
