// Keys and values as a cache of few bits holds them, as graph nodes.
import { type KeyValueQuantization, LowbitError, type Tensor } from '@lowbit/core';
import { planHadamard } from '@lowbit/linalg';
import { z } from 'zod';
import { quantizeActivations } from './activations.js';
import { hadamardRotation, rotateFeatures } from './rotation.js';

/** [..., headDim] each. */
export interface KeyValues {
  readonly keys: Tensor;
  readonly values: Tensor;
}

/** Schema of the settings, for readers of files. */
export const keyValuesSchema: z.ZodType<KeyValueQuantization> = z.strictObject({
  bits: z.int().min(2).max(16),
  clipRatio: z.number().gt(0).max(1),
  rotateKeys: z.boolean(),
});

/** Checked settings. @throws KEY_VALUES naming what is wrong; `where` begins the message. */
export function parseKeyValues(settings: unknown, where: string): KeyValueQuantization {
  const result = keyValuesSchema.safeParse(settings);
  if (result.success) return result.data;
  const problems = result.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
  throw new LowbitError('KEY_VALUES', `${where}: key-value quantization cannot be this: ${problems.join('; ')}; correct it`);
}

/**
 * Values [..., headDim] rounded to a symmetric grid of each token and head; keys, after rotary embedding, too, or with `rotateKeys` in the Hadamard basis
 * of the head and turned back, so that queries stay as they are (QuaRot, arXiv 2404.00456, §4). A head size without a Hadamard matrix is rotated in
 * stretches of a power of two.
 */
export function quantizeKeyValues({ keys, values }: KeyValues, { bits, clipRatio, rotateKeys }: KeyValueQuantization): KeyValues {
  const round = (x: Tensor): Tensor => quantizeActivations(x, { bits, clipRatio });
  if (!rotateKeys) return { keys: round(keys), values: round(values) };
  const rotation = hadamardRotation(planHadamard(keys.shape[keys.rank - 1], { fallback: 'block-diagonal' }));
  const rotated = round(rotateFeatures(keys, rotation));
  return { keys: rotateFeatures(rotated, rotation, { transpose: true }), values: round(values) };
}
