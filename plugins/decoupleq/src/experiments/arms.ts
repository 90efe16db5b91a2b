// What the experiments are made of: granularities, and steps of the methods that they compare.
import type { ExperimentArm, ExperimentRow, StepReference } from '@lowbit/core';
import type { DecoupleqInput } from '../options.js';

/** How many weights share a scale: what every comparison is made for. 32 divides the widths of both models. */
export const granularities = [
  { groupSize: -1, groups: 'per channel' },
  { groupSize: 32, groups: 'groups of 32' },
] as const;

/** Codes of one weight: bits, and what shares a scale. */
export interface Format {
  readonly bits: number;
  readonly groupSize: number;
}

/** Ranges that cover every weight, as in the paper's baselines. */
export function rtnStep({ bits, groupSize }: Format): StepReference {
  return { method: 'rtn', options: { bits, groupSize, clip: 'minmax' } };
}

/** Activation order and static groups, as decoupleQ has them. */
export function gptqStep({ bits, groupSize }: Format, clip: 'minmax' | 'mse' = 'minmax'): StepReference {
  return { method: 'gptq', options: { bits, groupSize, clip, actOrder: true } };
}

/** Layer-wise, unless `changes` says how to train blocks. */
export function decoupleqStep({ bits, groupSize }: Format, changes: DecoupleqInput = {}): StepReference {
  return { method: 'decoupleq', options: { bits, groupSize, actOrder: true, blockEpochs: 0, ...changes } };
}

/** An arm of one step, named after what is varied. */
export function arm(
  step: StepReference,
  parameters: ExperimentRow,
  settings: Pick<ExperimentArm, 'calibrationWindows'> = {},
): ExperimentArm {
  return { name: Object.values(parameters).join(', '), recipe: [step], parameters, ...settings };
}

/** The two models, and how much text each arm sees, wherever an experiment does not vary it. */
export const protocol = { models: ['tiny', 'stories15M'], seeds: [0, 1, 2], calibrationWindows: 128, heldOutWindows: 40 } as const;
