// Activations as they look after a per-token integer quantizer, as graph nodes.
import { abs, clip, div, LowbitError, max, maximum, mul, reshape, round, straightThrough, type Tensor } from '@lowbit/core';
import { resolveGroupSize } from './groups.js';

export interface ActivationOptions {
  /** 2 to 16. */
  readonly bits: number;
  /** Share of a token's largest magnitude that the range covers; what lies beyond is clipped. 1 by default. */
  readonly clipRatio?: number;
  /** Consecutive features that share a scale; −1, the default: all features of a token. */
  readonly groupSize?: number;
}

/** A token of zeros has this scale and stays zeros. Far below any scale that float32 activations lead to, far above its subnormals. */
const SMALLEST_SCALE = 1e-30;

/** @throws ACTIVATION_BITS or CLIP_RATIO for options out of range. */
export function checkActivationOptions({ bits, clipRatio = 1 }: ActivationOptions): void {
  if (!(Number.isInteger(bits) && bits >= 2 && bits <= 16)) {
    throw new LowbitError('ACTIVATION_BITS', `activation bits must be an integer from 2 to 16, got ${bits}`);
  }
  if (!(clipRatio > 0 && clipRatio <= 1)) throw new LowbitError('CLIP_RATIO', `clipRatio must lie in (0, 1], got ${clipRatio}`);
}

/**
 * x [..., features] rounded to a symmetric grid of each token (and group of features): s = clipRatio · max|x| / qmax,
 * x̂ = s · clip(round(x / s), −qmax − 1, qmax), qmax = 2^(bits−1) − 1 (QuaRot, arXiv 2404.00456, §4; QUAD, arXiv 2503.19353).
 * The gradient passes straight through, clipped elements included.
 */
export function quantizeActivations(x: Tensor, options: ActivationOptions): Tensor {
  const { codes, scale } = activationCodes(x, options);
  return straightThrough(reshape(mul(codes, scale), x.shape), x);
}

/** The parts of `quantizeActivations`: x̂ = codes · scale, codes float32 [..., groups, size] and scale [..., groups, 1]. */
export function activationCodes(x: Tensor, options: ActivationOptions): { codes: Tensor; scale: Tensor } {
  checkActivationOptions(options);
  const { bits, clipRatio = 1, groupSize = -1 } = options;
  const features = x.shape[x.rank - 1];
  const size = resolveGroupSize({ path: 'activations', inFeatures: features }, groupSize);
  const grouped = reshape(x, [...x.shape.slice(0, -1), features / size, size]);
  const largest = 2 ** (bits - 1) - 1;
  const scale = maximum(mul(max(abs(grouped), [-1], true), clipRatio / largest), SMALLEST_SCALE);
  return { codes: clip(round(div(grouped, scale)), -largest - 1, largest), scale };
}
