// GPTQ (Frantar et al., arXiv 2210.17323): each input's rounding error is fed back into the weights of the inputs still to be rounded.
import { checkDense, defineMethod, gram, type LinearContext, readFloats, requireDense } from '@lowbit/core';
import { checkGroups, clipOption, type GptqFactor, gridOptions, QuantizedLinear } from '@lowbit/quant';
import { z } from 'zod';
import { gptqCost } from './cost.js';
import { type GptqOutcome, gptqWeight } from './gptq-weight.js';
import { sharedFactor } from './shared-factor.js';

const options = z.strictObject({
  ...gridOptions,
  clip: clipOption('mse'),
  actOrder: z.boolean().default(true).describe('Round the inputs with the largest activations first; groups keep their inputs'),
  dampening: z
    .number()
    .gt(0)
    .max(1)
    .default(0.01)
    .describe("Added to the layer Hessian's diagonal, relative to its mean; raised where the Hessian is singular"),
});

type Options = z.output<typeof options>;

/** Rounds one input after the other on a grid fixed beforehand. */
export const gptq = defineMethod({
  name: 'gptq',
  version: 1,
  description: 'Rounding with second-order error feedback (arXiv 2210.17323)',
  options,
  statistics: { gram },
  makes: 'affine',
  cost: gptqCost,
  check(linear, { groupSize }) {
    checkDense(linear);
    checkGroups(linear, groupSize);
  },
  async quantizeLinear(linear, context) {
    const { backend, options, path, stats } = context;
    const dense = requireDense(linear, path);
    const [leaf] = await backend.evaluate([dense.weight]);
    const factor = await sharedFactor({ backend, gram: stats.gram, dampening: options.dampening, actOrder: options.actOrder, path });
    const outcome = await gptqWeight(backend, await readFloats(leaf), leaf.shape, factor, { ...options, path });
    report(context, factor, outcome);
    return new QuantizedLinear(outcome.weight, dense.bias);
  },
});

/** Calibration rows an input, below which feedback may do harm on other text: see the README for what was measured. */
const ENOUGH_ROWS = 4;

function report({ options, path, rows, log, warn }: LinearContext<Options>, factor: GptqFactor, { loss, nearestLoss }: GptqOutcome): void {
  const { dampening, deadInputs, inFeatures } = factor;
  log({ dampening, deadInputs, loss, nearestLoss });
  if (deadInputs > 0) {
    const known = 'nothing is known of them, and they are rounded to nearest';
    warn('GPTQ_DEAD_INPUTS', `${path}: ${deadInputs} of ${inFeatures} inputs are 0 in all ${rows} calibration rows; ${known}`);
  }
  if (rows < ENOUGH_ROWS * inFeatures) {
    const wanted = `calibrate on ${ENOUGH_ROWS * inFeatures} or more`;
    warn('GPTQ_FEW_ROWS', `${path}: ${rows} calibration rows for ${inFeatures} inputs fit the text rather than the layer; ${wanted}`);
  }
  if (dampening > options.dampening) {
    const change = `dampening was raised from ${options.dampening} to ${dampening}`;
    warn('GPTQ_DAMPENING', `${path}: the Hessian of ${rows} rows is singular; ${change}; calibrate on more text`);
  }
  if (loss >= nearestLoss && nearestLoss > 0) {
    const losses = `${loss.toPrecision(3)} where rounding to nearest gives ${nearestLoss.toPrecision(3)}`;
    warn('GPTQ_NO_GAIN', `${path}: error feedback gave ${losses}; the layer is rounded to nearest`);
  }
}

export default gptq;
