// Options of `rotate`, `quad` and `activations`.
import { LowbitError } from '@lowbit/core';
import { z } from 'zod';

const activationBits = z.int().min(2).max(16);
const share = z.number().gt(0).max(1);

const rotationOptions = {
  rotation: z
    .enum(['hadamard', 'random', 'none'])
    .default('hadamard')
    .describe('Rotation of the residual stream: Hadamard with random signs, a random orthogonal matrix, or none (for comparison)'),
  fallback: z
    .enum(['block-diagonal', 'random', 'error'])
    .default('block-diagonal')
    .describe('For sizes without a Hadamard matrix: one for each stretch of a power of two, a random orthogonal matrix, or an error'),
  onlineRotation: z
    .boolean()
    .default(true)
    .describe('Rotate the inputs of the output projections while the model runs: heads among each other, and the MLP'),
  activationBits: activationBits
    .default(4)
    .describe('Bits of the inputs of what reads the residual stream (q, k, v, gate, up); 16: not rounded'),
  outputActivationBits: activationBits
    .default(8)
    .describe('Bits of the inputs of what writes to the residual stream (o, down); 16: not rounded'),
  clipRatio: share.default(0.9).describe("Share of a token's largest magnitude that its range covers"),
  keyValueBits: activationBits.default(16).describe('Bits of keys and values, for each token and head; 16: not rounded'),
  keyValueClipRatio: share.default(0.95).describe('Share of the largest magnitude that the range of keys and values covers'),
  rotateKeys: z.boolean().default(true).describe('Round keys in the Hadamard basis of their head; with keyValueBits below 16'),
  dtype: z
    .enum(['float16', 'float32'])
    .default('float16')
    .describe('Precision of what is not quantized afterwards: embedding, head, outlier columns'),
  preset: z
    .enum(['default', 'reference'])
    .default('default')
    .describe(
      "'reference' repeats what the published code does before it rotates, and nothing else of it: mean-free embeddings, epsilon 1e-5 and no first norm in the basis",
    ),
};

export const rotateOptions = z.strictObject(rotationOptions);
export type RotateInput = z.input<typeof rotateOptions>;
export type RotateOptions = z.output<typeof rotateOptions>;

export const quadOptions = z.strictObject({
  rank: z.int().min(0).default(64).describe('Directions of the residual stream that stay in full precision; 0: rotate'),
  layout: z
    .enum(['expand', 'compact'])
    .default('expand')
    .describe("'expand' widens the stream by the rank and keeps the width of what is quantized; 'compact' keeps the stream's width"),
  gram: z
    .enum(['pre', 'post'])
    .default('pre')
    .describe("Whose energy decides the directions: the stream's, where loud tokens count most, or the normalized stream's"),
  basis: z
    .enum(['svd', 'channels', 'random', 'bottom'])
    .default('svd')
    .describe('Directions of most energy; for comparison the loudest channels, random ones, those of least energy'),
  basisWindows: z.int().positive().default(32).describe('Calibration windows that the energy is summed over'),
  ...rotationOptions,
});
export type QuadInput = z.input<typeof quadOptions>;
export type QuadOptions = z.output<typeof quadOptions>;

export const activationsOptions = z.strictObject({
  bits: activationBits.max(15).default(4).describe('Bits of the inputs'),
  clipRatio: rotationOptions.clipRatio,
  magnitudes: z.boolean().default(false).describe('Log how large the inputs are, channel by channel, on calibration text'),
});
export type ActivationsInput = z.input<typeof activationsOptions>;
export type ActivationsOptions = z.output<typeof activationsOptions>;

/** @throws RANK when so many directions do not fit a stream of this width. */
export function checkRank({ rank, layout }: Pick<QuadOptions, 'rank' | 'layout'>, width: number): void {
  const most = layout === 'compact' ? width - 1 : width;
  if (rank <= most) return;
  const why = layout === 'compact' ? "layout 'compact' leaves nothing to quantize" : 'the residual stream has no more';
  throw new LowbitError('RANK', `quad: ${rank} directions of a residual stream of ${width}: ${why}; use a rank of at most ${most}`);
}
