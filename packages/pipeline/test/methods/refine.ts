// refineBlock: a few Adam steps on scales and offsets, codes frozen, towards what the block gave before (decoupleQ's second stage).
import { defineMethod, type Linear, mean, square, sub, type Tensor, tensorsOf } from '@lowbit/core';
import { adam, constantRate, train, withParameters } from '@lowbit/train';
import { z } from 'zod';
import { nearest } from './round.js';

const trainable = /\.(scale|offset)$/;

export const refined = defineMethod({
  name: 'test-refined',
  version: 1,
  options: z.strictObject({
    bits: z.int().min(2).max(8).default(4),
    groupSize: z.int().positive().default(16),
    steps: z.int().min(0).default(6),
    learningRate: z.number().positive().default(1e-3),
    target: z.enum(['step', 'dense']).default('step'),
  }),
  quantizeLinear: (linear, context) => quantizeNearest(linear, context),
  async refineBlock(block, { backend, options, inputs, targets, denseTargets, log, progress, optionsFor }) {
    const wanted = options.target === 'dense' ? await denseTargets() : targets;
    const isOurs = (name: string): boolean =>
      trainable.test(name) &&
      Object.keys(block.linears).some((linear) => name.startsWith(`${linear}.`) && optionsFor(linear) !== undefined);
    const { losses, parameters } = await train({
      backend,
      parameters: new Map([...tensorsOf(block)].filter(([name]) => isOurs(name))),
      optimizer: adam({ beta2: 0.99 }),
      lossOf: (values, { x, y }: { x: Tensor; y: Tensor }) => mean(square(sub(withParameters(block, values).forward(x), y))),
      batches: { length: inputs.length, at: async (i) => ({ x: await inputs.at(i), y: await wanted.at(i) }) },
      epochs: options.steps,
      learningRate: constantRate(options.learningRate),
      progress,
    });
    log({ losses });
    return withParameters(block, parameters);
  },
});

/** What another method does with a Linear, under this method's options: methods that hand on a stage need no more than its context. */
function quantizeNearest(linear: Linear, context: Parameters<NonNullable<typeof nearest.definition.quantizeLinear>>[1]): Promise<Linear> {
  return nearest.definition.quantizeLinear!(linear, context);
}
