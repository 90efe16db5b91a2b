// What the experiments on recipes are made of: the protocol, and the steps that they compare.
import type { ExperimentArm, ExperimentRow, StepReference } from '@lowbit/core';
import type { QatInput } from '../options.js';

/** Text and seeds: 128 windows, as many as the paper gives to every method. */
export const protocol = { models: ['tiny', 'stories15M'], seeds: [0, 1, 2], calibrationWindows: 128, heldOutWindows: 40 } as const;

/** Tokens of a window. */
export const WINDOW = 256;

/** Codes of one weight: bits, and how many share a scale; -1: an output channel. */
export interface Format {
  readonly bits: number;
  readonly groupSize: number;
}

/** 32 divides the widths of both models. */
export function inGroups(bits: number): Format {
  return { bits, groupSize: 32 };
}

/** Ranges that cover every weight. */
export function rtnStep(format: Format): StepReference {
  return { method: 'rtn', options: { ...format, clip: 'minmax' } };
}

/** Activation order and static groups. */
export function gptqStep(format: Format, clip: 'minmax' | 'mse' = 'minmax'): StepReference {
  return { method: 'gptq', options: { ...format, clip, actOrder: true } };
}

/** Layer by layer: what comes after trains the model as a whole. */
export function decoupleqStep(format: Format): StepReference {
  return { method: 'decoupleq', options: { ...format, actOrder: true, blockEpochs: 0 } };
}

/** Passes over the calibration windows, 96 steps: about two minutes of one core for stories15M. */
const EPOCHS = 3;

/** Windows that are held out to keep the best state by: 8 of 128. */
const HOLD_OUT = 0.0625;

/** Steps of 1024 tokens: few tokens are better spent on many steps. */
const course = { epochs: EPOCHS, batchWindows: 4, windowsAtOnce: 4, holdOut: HOLD_OUT } as const satisfies QatInput;

/** Codes of 2 bits. */
const RATE = 1e-3;

/** The finer the codes, the smaller the steps from one to the next, and the less is to be made good. */
function rateAt(bits: number): number {
  return RATE * 2 ** (2 - bits);
}

/** Relative to where scales start, so that one rate fits all models: where weights do most of it, and where scales are all there is. */
const SCALE_RATE = 2e-3;
const SCALES_ALONE_RATE = 1e-2;

/** With every bit a code is half as wide, and a scale moves codes twice as far from zero. */
function scaleRateAt(bits: number): number {
  return SCALE_RATE * 4 ** (2 - bits);
}

export function qatStep(bits: number, changes: QatInput = {}): StepReference {
  return { method: 'qat', options: { ...course, learningRate: rateAt(bits), scaleLearningRate: scaleRateAt(bits), ...changes } };
}

/** Of that rate, which is for dense weights of small models: for larger ones, and for codes that were chosen with care. */
const CAREFUL = 0.2;

/** What is too little for the one model is too much for the other, the more so the finer the codes. */
function carefulRateAt(bits: number): number {
  return CAREFUL * RATE * 4 ** (2 - bits);
}

/** From the codes of what was quantized, with dense weights behind them. Above 2 bits at the better of two rates on held-out windows. */
export function codesStep(bits: number, changes: QatInput = {}): StepReference {
  const learningRate = [...new Set([CAREFUL * rateAt(bits), carefulRateAt(bits)])];
  return qatStep(bits, { latent: 'codes', learningRate, ...changes });
}

/** Codes stay as they are. */
export function scalesStep(bits: number, changes: QatInput = {}): StepReference {
  return qatStep(bits, { train: 'scales', scaleLearningRate: SCALES_ALONE_RATE, ...changes });
}

/** As many passes over the same windows, each block towards the output of the dense one. */
export function blocksStep(bits: number): StepReference {
  const { windowsAtOnce: _all, ...own } = course;
  return { method: 'qat-blocks', options: { ...own, learningRate: rateAt(bits), scaleLearningRate: scaleRateAt(bits) } };
}

/**
 * From dense weights with grids that are recomputed at every step, as in the paper, whatever is minimised. Of two rates the better one on
 * held-out windows, since where there are no codes to begin with the best depends on the model.
 */
export function straightThroughStep(format: Format, changes: QatInput = {}): StepReference {
  const learningRate = [rateAt(format.bits), carefulRateAt(format.bits)];
  return qatStep(format.bits, { ...format, learningRate, quantizer: 'minmax', zero: 'integer', clip: 'minmax', ...changes });
}

/** An arm named after what is varied. */
export function arm(
  recipe: readonly StepReference[],
  parameters: ExperimentRow,
  settings: Pick<ExperimentArm, 'calibrationWindows'> = {},
): ExperimentArm {
  return { name: Object.values(parameters).join(', '), recipe, parameters, ...settings };
}
