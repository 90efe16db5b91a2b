// What the experiments are made of: the protocol, formats, and steps of the methods that they compare.
import type { ExperimentArm, ExperimentRow, StepReference } from '@lowbit/core';

/** Text, models and seeds of every experiment. Differences at 4 bits are a few thousandths of a nat: fewer held-out windows would not show them. */
export const protocol = { models: ['tiny-outliers', 'tiny'], seeds: [0, 1, 2], calibrationWindows: 128, heldOutWindows: 100 } as const;

/**
 * 6 % of the width of the tiny models, 4 % of that of stories15M. The paper's 64 of 4096 would be 3 of 192, whose gain is within noise on
 * models as small as these.
 */
export const RANK = 12;

/** Bits of weights, of the inputs of q, k, v, gate and up, and of those of o and down; 16: not quantized. */
export interface Format {
  readonly weights: number;
  readonly activations: number;
  readonly outputs: number;
}

/** By name. 'W4A4/A8' is the paper's: what writes to the residual stream reads 8 bits. */
export const formats = {
  W4A4: { weights: 4, activations: 4, outputs: 4 },
  'W4A4/A8': { weights: 4, activations: 4, outputs: 8 },
  W3A3: { weights: 3, activations: 3, outputs: 3 },
} as const satisfies Record<string, Format>;

export type FormatName = keyof typeof formats;

type Options = Readonly<Record<string, unknown>>;

function activationOptions({ activations, outputs }: Format): Options {
  return { activationBits: activations, outputActivationBits: outputs };
}

/** No rotation. */
export function plainStep({ activations, outputs }: Format): StepReference {
  const overrides = Object.fromEntries(['**.o_proj', '**.down_proj'].map((path) => [path, { bits: outputs }]));
  return { method: 'activations', options: { bits: activations, overrides } };
}

/** QuaRot. */
export function rotateStep(format: Format, changes: Options = {}): StepReference {
  return { method: 'rotate', options: { ...activationOptions(format), ...changes } };
}

export function quadStep(format: Format, changes: Options = {}): StepReference {
  return { method: 'quad', options: { rank: RANK, ...activationOptions(format), ...changes } };
}

/** Symmetric, one scale an output channel, ranges searched for the least rounding error: as in the published scripts. */
export function weightStep(method: 'rtn' | 'gptq', { weights }: Format): StepReference {
  return { method, options: { bits: weights, groupSize: -1, symmetric: true, clip: 'mse' } };
}

/** An arm named after what is varied. */
export function arm(recipe: readonly StepReference[], parameters: ExperimentRow): ExperimentArm {
  return { name: Object.values(parameters).join(', '), recipe, parameters };
}
