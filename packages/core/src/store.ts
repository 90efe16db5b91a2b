// Where a run keeps what it has finished.
import { read, type Tensor, tensor } from './tensor.js';

/** Named tensors with JSON beside them: one entry of a store. Tensors of an entry that was read are lazy leaves. */
export interface StoreEntry {
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly tensors: Readonly<Record<string, Tensor>>;
}

/**
 * Keeps entries by key. `put` is atomic: after a crash an entry is there whole or not at all. It reads each lazy tensor once, one after
 * another, so that an entry can be larger than memory; when it resolves, none of them is needed any more.
 */
export interface Store {
  get(key: string): Promise<StoreEntry | undefined>;
  put(key: string, entry: StoreEntry): Promise<void>;
  delete(key: string): Promise<void>;
}

/** A store in memory, for short runs and tests. */
export function memoryStore(): Store {
  const entries = new Map<string, StoreEntry>();
  return {
    get: async (key) => entries.get(key),
    async put(key, { metadata, tensors }) {
      const held: Record<string, Tensor> = {};
      for (const [name, t] of Object.entries(tensors)) {
        const isHeld = t.source.kind === 'leaf' && t.source.data !== undefined;
        held[name] = isHeld ? t : tensor(await read(t), t.shape, t.dtype);
      }
      entries.set(key, { metadata, tensors: held });
    },
    delete: async (key) => void entries.delete(key),
  };
}
