// Corrections that have a say in the codes: the quantizer is called on what the low-rank part leaves over.
import type { Backend } from '@lowbit/core';
import { bestCorrection, type Correction, type CorrectionOptions } from './closed-form.js';
import { correctionOf, type LowRankFactors } from './factors.js';
import { type InputRoot, identityRoot } from './input-root.js';

/** Any quantizer: a weight [out, in] to what stands for it, and that as floats. Must be the one the layer will run with. */
export type QuantizeDense<Q> = (weight: Float32Array) => Promise<{ readonly quantized: Q; readonly weight: Float32Array }>;

export interface LoftqOptions extends CorrectionOptions {
  /** Times the weight is quantized, at least 1; the paper's scripts use 5, PEFT 1. */
  readonly rounds: number;
  /** The norm of the error; the identity's by default, as in the paper. A quantizer that minimises the output error wants `gramRoot`. */
  readonly root?: InputRoot;
}

export interface LoftqResult<Q> extends Correction {
  /** Of the best round. */
  readonly quantized: Q;
  /** ‖(W − Ŵ − Δ) S‖_F after each round. The smallest one's result is kept. */
  readonly errors: readonly number[];
}

/**
 * LoftQ (arXiv 2310.08659, algorithm 1): Ŵ ← Q(W − Δ), Δ ← best rank-r correction of W − Ŵ, from Δ = 0. The error need not fall from
 * round to round, for quantizing W − Δ is not a projection of Ŵ; the best round is kept, so the result is never worse than the first:
 * the quantized weight with its closed-form correction. `before` is the error of the kept Ŵ alone.
 * @throws as `bestCorrection`.
 */
export async function loftq<Q>(
  backend: Backend,
  weight: Float32Array,
  shape: readonly [number, number],
  quantize: QuantizeDense<Q>,
  { rounds, root = identityRoot, ...options }: LoftqOptions,
): Promise<LoftqResult<Q>> {
  const errors: number[] = [];
  let best: (Correction & { readonly quantized: Q }) | undefined;
  let target = weight;
  do {
    const made = await quantize(target);
    const correction = await bestCorrection(backend, difference(weight, made.weight), shape, root, options);
    errors.push(correction.after);
    if (!best || correction.after < best.after) best = { ...correction, quantized: made.quantized };
    if (errors.length < rounds) target = difference(weight, await correctionOf(backend, correction, shape, options.scaling));
  } while (errors.length < rounds);
  return { ...best, errors };
}

export interface PissaResult extends LowRankFactors {
  /** W − Δ, [out, in]: what is left for the quantizer. */
  readonly residual: Float32Array;
}

/**
 * PiSSA (arXiv 2404.02948): Δ holds the largest singular directions of the weight itself in full precision, the quantizer gets the
 * rest. @throws as `bestCorrection`.
 */
export async function pissa(
  backend: Backend,
  weight: Float32Array,
  shape: readonly [number, number],
  options: CorrectionOptions,
): Promise<PissaResult> {
  const { down, up } = await bestCorrection(backend, weight, shape, identityRoot, options);
  return { down, up, residual: difference(weight, await correctionOf(backend, { down, up }, shape, options.scaling)) };
}

function difference(a: Float32Array, b: Float32Array): Float32Array {
  return a.map((value, i) => value - b[i]);
}
