// finetune: low-rank adapters on the targeted Linears, trained to answer as the reference does (LREC, arXiv 2306.08162).
import { defineMethod, klDivergence, type Model, materialize, mean, type Tensor, tensor } from '@lowbit/core';
import { adam, constantRate, type NamedTensors, train } from '@lowbit/train';
import { z } from 'zod';
import { AdaptedLinear } from './linears.js';

export const adapted = defineMethod({
  name: 'test-adapted',
  version: 1,
  options: z.strictObject({
    rank: z.int().positive().default(2),
    steps: z.int().positive().default(8),
    /** Each of `steps`, the state saved in between. */
    epochs: z.int().positive().default(1),
    learningRate: z.number().default(3e-3),
  }),
  async finetune(model, { backend, options, reference, calibration, optionsFor, rng, progress, saved, save }) {
    const base = await materialize(model);
    const teacher = await materialize(reference);
    const targeted = base.blocks
      .flatMap((block) => Object.keys(block.linears).map((name) => ({ block, name })))
      .filter(({ block, name }) => optionsFor(`${block.path}.${name}`) !== undefined);
    const start = targeted.flatMap(({ block, name }): [string, Tensor][] => {
      const { inFeatures, outFeatures } = block.linears[name];
      const path = `${block.path}.${name}`;
      const down = rng
        .at(block.path, name)
        .normal(options.rank * inFeatures)
        .map((z) => z / Math.sqrt(inFeatures));
      return [
        [`${path}.down`, tensor(down, [options.rank, inFeatures])],
        [`${path}.up`, tensor(new Float32Array(outFeatures * options.rank), [outFeatures, options.rank])],
      ];
    });
    const rebuild = (values: NamedTensors): Model =>
      base.with({
        blocks: base.blocks.map((block) =>
          block.with({
            linears: Object.fromEntries(
              targeted.flatMap((target) => {
                if (target.block !== block) return [];
                const factor = (side: string): Tensor => values.get(`${block.path}.${target.name}.${side}`) as Tensor;
                return [[target.name, new AdaptedLinear(block.linears[target.name], factor('down'), factor('up'))]];
              }),
            ),
          }),
        ),
      });
    const { parameters } = await train<Tensor>({
      backend,
      parameters: new Map(start),
      optimizer: adam({ beta2: 0.99 }),
      lossOf: (values, tokens) => mean(klDivergence(teacher.forward(tokens), rebuild(values).forward(tokens))),
      batches: calibration,
      epochs: options.epochs,
      stepsPerEpoch: options.steps,
      learningRate: constantRate(options.learningRate),
      progress,
      saved,
      save,
    });
    return rebuild(parameters);
  },
});
