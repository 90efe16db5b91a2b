// What the experiments are made of: the protocol, and the steps that they compare.
import type { ExperimentArm, ExperimentRow, StepReference } from '@lowbit/core';
import type { CorrectionForm } from '../correction/options.js';
import type { EmefInput } from '../emef/options.js';
import type { LrecInput } from '../lrec/options.js';

/** Text and seeds of every experiment on models. */
export const protocol = { models: ['tiny', 'stories15M'], seeds: [0, 1, 2], calibrationWindows: 128, heldOutWindows: 40 } as const;

/** Adapters in percent of the checkpoint: what everything is compared at. */
const OVERHEAD = 0.05;

/** Divides the widths of both models. */
const groupSize = 32;

/** Ranges that cover every weight, for this and GPTQ alike. */
export function rtnStep(bits: number): StepReference {
  return { method: 'rtn', options: { bits, groupSize, clip: 'minmax' } };
}

/** Activation order and static groups. */
export function gptqStep(bits: number): StepReference {
  return { method: 'gptq', options: { bits, groupSize, clip: 'minmax', actOrder: true } };
}

/** Adapters in closed form. */
export function closedFormStep(form: CorrectionForm, overhead = OVERHEAD): StepReference {
  return { method: 'low-rank-correction', options: { form, overhead } };
}

/**
 * Four passes over the text, 130 thousand tokens: minutes on a CPU. So few tokens make most of many small steps at a higher rate than
 * the default, which is for millions of them.
 */
const training = { epochs: 4, batchWindows: 2 } as const satisfies LrecInput;

/** For codes of 2 bits. */
export const RATE = 2e-3;

export function lrecStep(changes: LrecInput = {}): StepReference {
  const { overhead = OVERHEAD } = changes;
  // A step of Adam moves each factor by the rate, and so their product by the rate times the root of the rank.
  const learningRate = RATE * Math.sqrt(OVERHEAD / overhead);
  return { method: 'lrec', options: { ...training, overhead, learningRate, ...changes } };
}

/** Fine-tuning of the adapters that are there, or of new ones of that overhead. */
export function emefStep(changes: EmefInput = {}): StepReference {
  return { method: 'emef', options: { overhead: OVERHEAD, stack: false, learningRate: RATE / 2, batchWindows: 2, ...changes } };
}

/** An arm named after what is varied. */
export function arm(recipe: readonly StepReference[], parameters: ExperimentRow): ExperimentArm {
  return { name: Object.values(parameters).join(', '), recipe, parameters };
}
