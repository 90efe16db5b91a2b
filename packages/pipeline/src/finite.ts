// NaN and Infinity in the weights of a model, found before any work is done on them.
import { LowbitError, type Model, read, type TypedArray, tensorsOf, throwIfAborted } from '@lowbit/core';

/** Exponent bits of a float32: all set in NaN and Infinity alone. */
const EXPONENT = 0x7f800000;

/**
 * Reads every weight once, one after another; those that a transform left as expressions are looked at when they are evaluated.
 * @throws WEIGHT_NOT_FINITE as `requireFinite`.
 */
export async function checkWeights(model: Model, signal: AbortSignal | undefined): Promise<void> {
  for (const [name, t] of tensorsOf(model)) {
    throwIfAborted(signal);
    if (t.isLeaf && t.dtype === 'float32') requireFinite(name, t.shape, await read(t));
  }
}

/** @throws WEIGHT_NOT_FINITE naming the tensor and its first element that is not finite. */
export function requireFinite(name: string, shape: readonly number[], values: TypedArray): void {
  if (!(values instanceof Float32Array)) return;
  const bad = firstNotFinite(values);
  if (bad < 0) return;
  throw new LowbitError('WEIGHT_NOT_FINITE', `${name}: element [${indicesOf(bad, shape)}] is ${values[bad]}; get the checkpoint anew`);
}

/** Index of the first element that is NaN or Infinity; −1 when there is none. */
export function firstNotFinite(values: Float32Array): number {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) if ((bits[i] & EXPONENT) === EXPONENT) return i;
  return -1;
}

function indicesOf(index: number, shape: readonly number[]): string {
  const indices: number[] = [];
  let rest = index;
  for (const size of [...shape].reverse()) {
    indices.unshift(rest % size);
    rest = Math.floor(rest / size);
  }
  return indices.join(', ');
}
