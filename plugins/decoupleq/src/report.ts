// What is said about a quantized layer: one log record, and warnings where something is off.
import type { LinearContext } from '@lowbit/core';
import type { DecoupleResult } from './layer.js';
import type { DecoupleqOptions } from './options.js';
import type { LayerProblem } from './problem.js';

/** Calibration rows an input, below which the layer is fitted to the text rather than to the model. */
const ENOUGH_ROWS = 4;

export function reportLayer(
  { options, path, rows, log, warn }: LinearContext<DecoupleqOptions>,
  { inFeatures, factor }: LayerProblem,
  { loss, nearestLoss, gptqLoss, trace, scaleDtype, heldScales }: DecoupleResult,
  deadInputs: number,
): void {
  log({ dampening: options.dampening, deadInputs, rows, loss, nearestLoss, gptqLoss, trace });
  if (deadInputs > 0) {
    const known = 'nothing is known of them, and dampening alone ties them to what they were';
    warn('DECOUPLEQ_DEAD_INPUTS', `${path}: ${deadInputs} of ${inFeatures} inputs are 0 in all ${rows} calibration rows; ${known}`);
  }
  if (rows < ENOUGH_ROWS * inFeatures) {
    const wanted = `calibrate on ${ENOUGH_ROWS * inFeatures} or more`;
    warn('DECOUPLEQ_FEW_ROWS', `${path}: ${rows} calibration rows for ${inFeatures} inputs fit the text rather than the layer; ${wanted}`);
  }
  if (factor.dampening > options.factorDampening) {
    const change = `the dampening of its factor was raised from ${options.factorDampening} to ${factor.dampening}`;
    warn('DECOUPLEQ_DAMPENING', `${path}: the Hessian of ${rows} rows is singular; ${change}; calibrate on more text`);
  }
  if (scaleDtype !== options.scaleDtype) {
    warn('DECOUPLEQ_SCALE_RANGE', `${path}: scales or offsets are beyond ${options.scaleDtype}; they are stored as ${scaleDtype}`);
  }
  if (heldScales > 0) {
    const advice = 'groups whose codes are all equal keep the scale they had';
    warn('DECOUPLEQ_SINGULAR', `${path}: ${heldScales} scales are not determined by the codes; ${advice}`);
  }
  // Rounding to nearest, then the better of it and GPTQ in each row, then the alternation.
  const start = trace[1].loss;
  if (options.iterations > 1 && loss >= start && start > 0) {
    warn('DECOUPLEQ_NO_GAIN', `${path}: the alternation gained nothing over GPTQ and rounding to nearest, loss ${start.toPrecision(3)}`);
  }
}
