// Leaves that are read from somewhere, read once.
import { read, type Tensor, tensor } from '@lowbit/core';
import type { NamedTensors } from './optimizer.js';

/** The same tensors with their elements in memory, read one after the other: neighbours may come from one file, or one computation. */
export async function inMemory(tensors: NamedTensors): Promise<NamedTensors> {
  const loaded = new Map<string, Tensor>();
  for (const [name, t] of tensors) {
    const isInMemory = t.source.kind === 'leaf' && t.source.data !== undefined;
    loaded.set(name, isInMemory ? t : tensor(await read(t), t.shape, t.dtype));
  }
  return loaded;
}
