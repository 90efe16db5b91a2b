// finetune: low-rank adapters on the targeted Linears, trained to answer as the reference does (LREC, arXiv 2306.08162).
import { defineMethod, klDivergence, type Model, materialize, mean, type Tensor, tensor } from '@lowbit/core';
import { z } from 'zod';
import { adamStep, startAdam } from './adam.js';
import { AdaptedLinear } from './linears.js';

export const adapted = defineMethod({
  name: 'test-adapted',
  version: 1,
  options: z.strictObject({
    rank: z.int().positive().default(2),
    steps: z.int().min(0).default(8),
    learningRate: z.number().default(3e-3),
  }),
  async finetune(model, { backend, options, reference, calibration, optionsFor, rng, progress }) {
    const base = await materialize(model);
    const teacher = await materialize(reference);
    const targeted = base.blocks
      .flatMap((block) => Object.keys(block.linears).map((name) => ({ block, name })))
      .filter(({ block, name }) => optionsFor(`${block.path}.${name}`) !== undefined);
    const start = targeted.flatMap(({ block, name }) => {
      const { inFeatures, outFeatures } = block.linears[name];
      const down = rng
        .at(block.path, name)
        .normal(options.rank * inFeatures)
        .map((z) => z / Math.sqrt(inFeatures));
      return [tensor(down, [options.rank, inFeatures]), tensor(new Float32Array(outFeatures * options.rank), [outFeatures, options.rank])];
    });
    const rebuild = (values: readonly Tensor[]): Model =>
      base.with({
        blocks: base.blocks.map((block) =>
          block.with({
            linears: Object.fromEntries(
              targeted.flatMap((target, i) =>
                target.block === block
                  ? [[target.name, new AdaptedLinear(block.linears[target.name], values[2 * i], values[2 * i + 1])]]
                  : [],
              ),
            ),
          }),
        ),
      });
    let state = startAdam(start);
    for (let step = 0; step < options.steps; step++) {
      const tokens = await calibration.at(step % calibration.length);
      const [answer] = await backend.evaluate([teacher.forward(tokens)]);
      const { next } = await adamStep(backend, state, options.learningRate, (values) =>
        mean(klDivergence(answer, rebuild(values).forward(tokens))),
      );
      state = next;
      progress(step + 1, options.steps);
    }
    return rebuild(state.parameters);
  },
});
