// One Linear without its adapters: as a dense weight, or rounded to codes once more.
import { type Backend, DenseLinear, type Linear, readFloats, tensor } from '@lowbit/core';
import { LowRankLinear, QuantizedLinear } from '@lowbit/quant';
import { storedValues } from '../adapters/stored-factors.js';
import { roundLike } from '../round-like.js';

/** Sums of squares over weights, for relative errors of many layers together. */
export interface MergeErrors {
  /** ‖M‖² of the merged weights. */
  readonly merged: number;
  /** ‖M − Ŵ‖²: what the adapters had changed. */
  readonly adapters: number;
  /** ‖M − Q(M)‖²: what rounding has changed. */
  readonly rounding: number;
}

interface MergedLinear {
  readonly linear: Linear;
  /** Whether an adapter went into a weight. */
  readonly isMerged: boolean;
  /** Whether one had to stay beside its base. */
  readonly isKept: boolean;
  /** Of a weight that was rounded again. */
  readonly errors?: MergeErrors | undefined;
}

/**
 * Merges the adapters of a Linear, one on the other too: W = Ŵ + γ₁B₁A₁ + γ₂B₂A₂ + …, rounded to float16 where the layer is stored so,
 * in place of codes and factors. What quantizes the activations stays. An adapter beside such a wrapper reads the input before it is
 * quantized, its base after: no one weight is both, so the adapter stays.
 * @param requantize rounds the merged weight as the codes below it are, where there are any.
 */
export async function mergeLinear(backend: Backend, linear: Linear, requantize: boolean, path: string): Promise<MergedLinear> {
  const part = linear.quantizable;
  if (part) {
    const inner = await mergeLinear(backend, part.linear, requantize, path);
    return inner.isMerged ? { ...inner, linear: part.replace(inner.linear) } : { ...inner, linear };
  }
  if (!(linear instanceof LowRankLinear)) return { linear, isMerged: false, isKept: false };
  const [leaf] = await backend.evaluate([linear.effectiveWeight()]);
  const dense = linear.withWeight(leaf);
  if (!(dense instanceof DenseLinear)) {
    const lower = await mergeLinear(backend, linear.base, requantize, path);
    return { ...lower, linear: lower.isMerged ? linear.with({ base: lower.linear }) : linear, isKept: true };
  }
  const weight = await readFloats(leaf);
  const codes = codesBelow(linear);
  if (requantize && codes) return roundedAgain(backend, weight, codes, path);
  const values = dense.bitsPerElement === 16 ? storedValues(weight, 'float16') : weight;
  return { linear: dense.withWeight(tensor(values, leaf.shape)), isMerged: true, isKept: false };
}

/** What all adapters stand on, if it is quantized. */
function codesBelow(linear: Linear): QuantizedLinear | undefined {
  if (linear instanceof LowRankLinear) return codesBelow(linear.base);
  return linear instanceof QuantizedLinear ? linear : undefined;
}

async function roundedAgain(backend: Backend, weight: Float32Array, codes: QuantizedLinear, path: string): Promise<MergedLinear> {
  const [base] = await backend.evaluate([codes.effectiveWeight()]);
  const rounded = await roundLike(backend, weight, codes.weight, path);
  const errors: MergeErrors = {
    merged: squaredDistance(weight, new Float32Array(weight.length)),
    adapters: squaredDistance(weight, await readFloats(base)),
    rounding: squaredDistance(weight, rounded.weight),
  };
  return { linear: new QuantizedLinear(rounded.quantized, codes.bias), isMerged: true, isKept: false, errors };
}

function squaredDistance(a: Float32Array, b: Float32Array): number {
  return a.reduce((total, value, i) => total + (value - b[i]) ** 2, 0);
}
