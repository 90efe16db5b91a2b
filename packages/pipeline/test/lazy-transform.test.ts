// A transform leaves its blocks as expressions to a step that walks over them: same bytes, one block in memory, nothing evaluated in vain.
import { createReferenceBackend } from '@lowbit/backend-reference';
import {
  DenseLinear,
  defineMethod,
  gram,
  type Model,
  memoryStore,
  type Recipe,
  type RunEvent,
  read,
  type Step,
  tensorsOf,
} from '@lowbit/core';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { type QuantizeOptions, quantize } from '../src/index.js';
import { testKinds } from './methods/linears.js';
import { refined } from './methods/refine.js';
import { rotate } from './methods/rotate.js';
import { searched } from './methods/round.js';

const calibration = createToyTokens({ seed: 2, batchCount: 2, batchSize: 1, tokens: 6 });
const run = (recipe: Recipe, options: Partial<QuantizeOptions> = {}) =>
  quantize({ model: createToyModel({ seed: 4 }), backend: createReferenceBackend(), recipe, calibration, seed: 3, ...options });

/** The same rotation, evaluated by the method itself. */
const rotateAtOnce = defineMethod({
  ...rotate.definition,
  async transform(model, context) {
    const rotated = (await rotate.definition.transform?.(model, context)) ?? model;
    const pending = [...tensorsOf(rotated).values()].filter((t) => !t.isLeaf);
    const leaves = await context.backend.evaluate(pending);
    const computed = new Map(pending.map((t, i) => [t, leaves[i]]));
    return rotated.map((t) => computed.get(t) ?? t);
  },
});

/** Puts back the full-precision weight. */
const restored = defineMethod({
  name: 'test-restored',
  version: 1,
  options: z.strictObject({}),
  statistics: { gram },
  quantizeLinear: async (_linear, { reference }) => new DenseLinear((await reference()).effectiveWeight()),
});

/** Asks for the block in full precision, twice, and keeps what it was given. */
const compared = defineMethod({
  name: 'test-compared',
  version: 1,
  options: z.strictObject({}),
  async refineBlock(block, { reference, denseTargets }) {
    const [first, second] = [await reference(), await reference()];
    expect(second).toBe(first);
    await denseTargets();
    return block;
  },
});

async function valuesOf(model: Model): Promise<Map<string, unknown>> {
  const values = new Map<string, unknown>();
  for (const [name, t] of tensorsOf(model)) values.set(name, await read(t));
  return values;
}

const recipes: readonly (readonly [string, readonly Step[]])[] = [
  ['a method that reads activations', [searched({ bits: 3 })]],
  ['a part of the Linears', [searched({ bits: 3, targets: ['**.1.mlp.*'] })]],
  ['a correction of an earlier step', [searched({ bits: 3 }), restored({ targets: ['**.o_proj', '**.up_proj'] })]],
  ['a refinement towards dense targets', [refined({ bits: 3, steps: 1, target: 'dense' })]],
  ['a refinement that compares', [searched({ bits: 3 }), compared()]],
];

describe.each(recipes)('before %s', (_what, steps) => {
  it.each(['quantized', 'dense'] as const)(
    'gives the bytes of blocks that were evaluated at once, propagating %s outputs',
    async (propagate) => {
      const { model: expected } = await run([rotateAtOnce({ extra: 16 }), ...steps], { propagate });
      const { model: made } = await run([rotate({ extra: 16 }), ...steps], { propagate });
      expect(await valuesOf(made)).toEqual(await valuesOf(expected));
      const store = memoryStore();
      const kinds = testKinds;
      expect(await valuesOf((await run([rotate({ extra: 16 }), ...steps], { propagate, store, kinds })).model)).toEqual(
        await valuesOf(made),
      );
      const again = await run([rotate({ extra: 16 }), ...steps], { propagate, store, kinds });
      expect(await valuesOf(again.model)).toEqual(await valuesOf(made));
    },
  );
});

/** What a run reads and finishes, in order: 'read 0' for a weight of block 0, 'done 1/0' for block 0 of step 1. */
async function traced(...recipe: Recipe): Promise<{ order: string[]; reads: Map<string, number> }> {
  const order: string[] = [];
  const reads = new Map<string, number>();
  const onLoad = (name: string): void => {
    const block = /layers\.(\d)/.exec(name)?.[1];
    if (block === undefined || !name.endsWith('_proj.weight')) return;
    order.push(`read ${block}`);
    reads.set(name, (reads.get(name) ?? 0) + 1);
  };
  const onEvent = (event: RunEvent): void => {
    // Until then every weight has been read once, to see whether it is finite.
    if (event.type === 'run-start') order.length = 0;
    if (event.type === 'run-start') reads.clear();
    if (event.type === 'block-done') order.push(`done ${event.step}/${event.done - 1}`);
  };
  await run(recipe, { model: createToyModel({ seed: 4, blockCount: 3, onLoad }), onEvent });
  return { order: order.filter((entry, i) => entry !== order[i - 1]), reads };
}

describe('a block', () => {
  const walk = (step: number): string[] => [0, 1, 2].flatMap((block) => [`read ${block}`, `done ${step}/${block}`]);

  it('is evaluated when its turn comes, once, and the next one after it is done', async () => {
    for (const step of [searched({ bits: 3 }), refined({ bits: 3, steps: 1, target: 'dense' })]) {
      const { order, reads } = await traced(rotate(), step);
      expect(order).toEqual(walk(1));
      expect([...reads.values()]).toEqual(Array.from({ length: 21 }, () => 1));
    }
  });

  it.each([restored(), compared()])('is evaluated once more by a step that compares with it', async (last) => {
    const { order, reads } = await traced(rotate(), searched({ bits: 3 }), last);
    expect(order).toEqual([...walk(1), ...walk(2)]);
    expect([...reads.values()]).toEqual(Array.from({ length: 21 }, () => 2));
  });

  it('is kept in memory by nobody but the walk', async () => {
    const seen: Model[] = [];
    const looking = defineMethod({
      name: 'test-looking',
      version: 1,
      options: z.strictObject({}),
      async quantizeLinear(linear, { model }) {
        expect(linear.effectiveWeight().isLeaf).toBe(true);
        seen.push(model);
        return linear;
      },
    });
    await run([rotate(), looking()]);
    const weights = seen.flatMap(({ blocks }) => blocks.flatMap(({ linears }) => Object.values(linears)));
    expect(weights.some((linear) => linear.effectiveWeight().isLeaf)).toBe(false);
  });
});

describe('blocks are evaluated by the step itself', () => {
  const leavesIn = (model: Model): boolean[] => [...new Set([...tensorsOf(model).values()].map(({ isLeaf }) => isLeaf))];

  it('at the end of a recipe, and before a step that trains or transforms', async () => {
    const seen: boolean[][] = [];
    const look = async (model: Model): Promise<Model> => {
      seen.push(leavesIn(model));
      return model;
    };
    for (const stage of [{ transform: look }, { finetune: look }, { ...restored.definition, transform: look }]) {
      const next = defineMethod({ name: 'test-next', version: 1, options: z.strictObject({}), ...stage });
      await run([rotate(), next()]);
    }
    expect(seen).toEqual([[true], [true], [true]]);
    expect(leavesIn((await run([rotate()])).model)).toEqual([true]);
  });
});
