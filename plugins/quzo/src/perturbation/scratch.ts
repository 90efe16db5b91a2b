// Buffers that are used again and again.
import type { Scratch } from '../hooks.js';

/** Scratch whose buffers are all free again after `reset`. */
export interface ReusedScratch extends Scratch {
  reset(): void;
  /** The function that is returned frees what has been taken since, as often as it is called. */
  mark(): () => void;
  /** What all buffers lie in, taken or not. */
  buffers(): readonly ArrayBufferLike[];
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
    mark() {
      const [freeBytes, freeFloats] = [bytes.mark(), floats.mark()];
      return () => {
        freeBytes();
        freeFloats();
      };
    },
    buffers: () => [...bytes.buffers(), ...floats.buffers()],
  };
}

function reused<T extends Int8Array | Float32Array>(
  make: (size: number) => T,
): Pick<ReusedScratch, 'reset' | 'mark' | 'buffers'> & { take(size: number): T } {
  const bySize = new Map<number, { readonly buffers: T[]; taken: number }>();
  return {
    buffers: () => [...bySize.values()].flatMap(({ buffers }) => buffers.map(({ buffer }) => buffer)),
    take(size) {
      let shelf = bySize.get(size);
      if (!shelf) bySize.set(size, (shelf = { buffers: [], taken: 0 }));
      if (shelf.taken === shelf.buffers.length) shelf.buffers.push(make(size));
      return shelf.buffers[shelf.taken++];
    },
    reset() {
      for (const shelf of bySize.values()) shelf.taken = 0;
    },
    mark() {
      const kept = new Map([...bySize].map(([size, { taken }]) => [size, taken]));
      return () => {
        for (const [size, shelf] of bySize) shelf.taken = kept.get(size) ?? 0;
      };
    },
  };
}
