// Where a run keeps what it has finished.
import type { Tensor } from './tensor.js';

/** Named tensors with JSON beside them: one entry of a store. Tensors of an entry that was read are lazy leaves. */
export interface StoreEntry {
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly tensors: Readonly<Record<string, Tensor>>;
}

/** Keeps entries by key. `put` is atomic: after a crash an entry is there whole or not at all. */
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
    put: async (key, entry) => void entries.set(key, entry),
    delete: async (key) => void entries.delete(key),
  };
}
