// One layer as the pure algorithms see it: what is given, and what an alternation changes.
import type { Backend } from '@lowbit/core';
import type { GptqFactor } from '@lowbit/quant';

/** What code 0 may stand for. */
export type ZeroKind = 'free' | 'integer' | 'symmetric';

/** A weight W [out, in] to be approximated by Ŵ = scale · code + offset, so that Σ_r (ŵ_r − w_r)H(ŵ_r − w_r)ᵀ is small. */
export interface LayerProblem {
  readonly backend: Backend;
  /** [out, in]. */
  readonly weight: Float32Array;
  readonly outFeatures: number;
  readonly inFeatures: number;
  readonly bits: number;
  /** Divides `inFeatures`. */
  readonly groupSize: number;
  readonly zero: ZeroKind;
  /** H [in, in], symmetric, dampening included: the metric of every error here (§1). */
  readonly hessian: Float32Array;
  /** Factor of `hessian` for GPTQ's sweep; one for all Linears of a group. */
  readonly factor: GptqFactor;
}

/** Scale, and what code 0 stands for, of every group: [out, in / groupSize]. A scale is never 0 and may be negative. */
export interface Scales {
  readonly scale: Float32Array;
  readonly offset: Float32Array;
}

/** A weight in three parts. */
export interface Quantized extends Scales {
  /** [out, in], 0 … 2^bits − 1. */
  readonly codes: Uint8Array;
}

/** Codes for given scales: the W-step (§1). */
export type CodeStep = (problem: LayerProblem, scales: Scales) => Promise<Uint8Array>;
