// refineBlock: a few Adam steps on scales and offsets, codes frozen, towards what the block gave before (decoupleQ's second stage).
import { type Block, defineMethod, type Linear, mean, square, sub, type Tensor, tensorsOf } from '@lowbit/core';
import { z } from 'zod';
import { adamStep, startAdam } from './adam.js';
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
    const parameters = [...tensorsOf(block)].filter(([name]) => isOurs(name)).map(([, t]) => t);
    const rebuild = (values: readonly Tensor[]): Block => {
      const by = new Map(parameters.map((t, i) => [t, values[i]]));
      return block.map((t) => by.get(t) ?? t);
    };
    let state = startAdam(parameters);
    const losses: number[] = [];
    for (let step = 0; step < options.steps; step++) {
      let total = 0;
      for (let i = 0; i < inputs.length; i++) {
        const [x, y] = [await inputs.at(i), await wanted.at(i)];
        const { loss, next } = await adamStep(backend, state, options.learningRate, (values) =>
          mean(square(sub(rebuild(values).forward(x), y))),
        );
        state = next;
        total += loss / inputs.length;
      }
      losses.push(total);
      progress(step + 1, options.steps);
    }
    log({ losses });
    return rebuild(state.parameters);
  },
});

/** What another method does with a Linear, under this method's options: methods that hand on a stage need no more than its context. */
function quantizeNearest(linear: Linear, context: Parameters<NonNullable<typeof nearest.definition.quantizeLinear>>[1]): Promise<Linear> {
  return nearest.definition.quantizeLinear!(linear, context);
}
