// The tiny Llama as an ordinary model of the Llama family, over tensors in memory.
import type { Model, Tensor } from '@lowbit/core';
import type { Checkpoint } from '@lowbit/formats';
import { loadModel } from '@lowbit/models';
import { llamaConfig, type TinyShape } from './architecture.js';

/** Bits of a stored weight: the checkpoints are written in bfloat16. */
const STORED_BITS = 16;

/** A model whose tensors are the given ones, by checkpoint name. */
export function tinyModel(shape: TinyShape, parameters: ReadonlyMap<string, Tensor>): Promise<Model> {
  const checkpoint: Checkpoint = {
    path: 'memory',
    config: llamaConfig(shape),
    entries: new Map([...parameters].map(([name, t]) => [name, { shape: t.shape, dtype: 'F32' }])),
    tensor: (name) => parameters.get(name) as Tensor,
    storedBits: () => STORED_BITS,
    linears: new Map(),
    tokenizer: async () => undefined,
    sideFiles: new Map(),
    provenance: {},
  };
  return loadModel(checkpoint);
}
