// Runs small graphs whose results are copied out at once, handing their memory back for the next run.
import { type Backend, readFloats, type Tensor } from '@lowbit/core';

/** Evaluates float32 graphs and passes the elements to `consume`, which must copy what it keeps: they are overwritten by later calls. */
export type TransientCompute = (tensors: readonly Tensor[], consume: (...results: Float32Array[]) => void) => Promise<void>;

/** A compute function that releases each call's results at the next call, so that a loop over fixed shapes allocates nothing. */
export function transientCompute(backend: Backend): TransientCompute {
  let spent: readonly Tensor[] = [];
  return async (tensors, consume) => {
    const results = await backend.evaluate(tensors, { release: spent });
    spent = results;
    consume(...(await Promise.all(results.map(readFloats))));
  };
}
