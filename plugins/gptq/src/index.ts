// GPTQ (Frantar et al., arXiv 2210.17323): each input's rounding error is fed back into the weights of the inputs still to be rounded.
import { defineMethod, gram, type LinearContext, readFloats, requireDense } from '@lowbit/core';
import {
  AffineWeight,
  checkGroups,
  clipOption,
  fitGrid,
  type GptqFactor,
  type GptqResult,
  type Grid,
  gptqSolve,
  gridOptions,
  QuantizedLinear,
  relativeGramError,
  roundToGrid,
} from '@lowbit/quant';
import { z } from 'zod';
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

/** Rounds one input after the other on a grid fixed beforehand (static groups). */
export const gptq = defineMethod({
  name: 'gptq',
  version: 1,
  description: 'Rounding with second-order error feedback (arXiv 2210.17323)',
  options,
  statistics: { gram },
  check: (linear, { groupSize }) => checkGroups(linear, groupSize),
  async quantizeLinear(linear, context) {
    const { backend, options, path, stats } = context;
    const dense = requireDense(linear, path);
    const [leaf] = await backend.evaluate([dense.weight]);
    const weight = await readFloats(leaf);
    const factor = await sharedFactor({ backend, gram: stats.gram, dampening: options.dampening, actOrder: options.actOrder, path });
    const grid = fitGrid(weight, leaf.shape, { ...options, path }, importanceOf(factor));
    const solved = await gptqSolve(backend, factor, weight, grid);
    const codes = await betterCodes(context, factor, weight, grid, solved);
    return new QuantizedLinear(AffineWeight.fromGrid(codes, grid), dense.bias);
  },
});

/** How much an error in each input's weights costs when nothing makes up for it: the damped diagonal of the Hessian, [in]. */
function importanceOf({ gram, order, dampening }: GptqFactor): Float32Array {
  const inputs = order.length;
  const diagonal = Float32Array.from({ length: inputs }, (_, i) => gram[i * (inputs + 1)]);
  const floor = (dampening * diagonal.reduce((total, value) => total + value, 0)) / inputs;
  return diagonal.map((value) => value + floor);
}

/** The solver's codes, or those of rounding to nearest should they be no worse: GPTQ is greedy and promises nothing. */
async function betterCodes(
  context: LinearContext<Options>,
  factor: GptqFactor,
  weight: Float32Array,
  grid: Grid,
  solved: GptqResult,
): Promise<Uint8Array> {
  const {
    backend,
    options: { dampening },
    path,
    rows,
    log,
    warn,
  } = context;
  const nearest = roundToGrid(weight, grid);
  const nearestError = await relativeGramError(backend, factor, weight, nearest, grid);
  log({ dampening: solved.dampening, deadInputs: solved.deadInputs, loss: solved.relativeError, nearestLoss: nearestError });
  if (solved.dampening > dampening) {
    warn(
      'GPTQ_DAMPENING',
      `${path}: the Hessian of ${rows} rows is singular; dampening was raised from ${dampening} to ${solved.dampening}; calibrate with more text`,
    );
  }
  if (solved.relativeError < nearestError || nearestError === 0) return solved.codes;
  warn(
    'GPTQ_NO_GAIN',
    `${path}: error feedback gave ${solved.relativeError.toPrecision(3)} where rounding to nearest gives ${nearestError.toPrecision(3)}; rounded to nearest`,
  );
  return nearest;
}

export default gptq;
