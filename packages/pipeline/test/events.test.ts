import { createReferenceBackend } from '@lowbit/backend-reference';
import { defineMethod, LowbitError, type Recipe, type RunEvent, tensor } from '@lowbit/core';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { type QuantizeOptions, quantize } from '../src/index.js';
import { rotate } from './methods/rotate.js';
import { nearest, searched } from './methods/round.js';

const model = createToyModel({ seed: 1 });
const calibration = createToyTokens({ seed: 2 });
let backend: ReturnType<typeof createReferenceBackend>;
beforeEach(() => {
  backend = createReferenceBackend();
});
const run = (recipe: Recipe, options: Partial<QuantizeOptions> = {}) => quantize({ model, backend, recipe, calibration, ...options });

describe('events', () => {
  it('come in order, with a counter that only grows and ends at its total', async () => {
    const events: RunEvent[] = [];
    const { milliseconds } = await run([rotate(), searched({ bits: 4, targets: ['**.0.**'] }), nearest({ targets: ['**.1.**'] })], {
      onEvent: (event) => void events.push(event),
    });
    expect(events[0]).toEqual({ type: 'run-start', steps: 3, blocks: 2, linears: 14 });
    const kinds = events.map((event) => event.type).filter((type) => type !== 'progress');
    const walk = ['step-start', ...Array<string>(7).fill('linear-done'), 'block-done', 'block-done', 'step-done'];
    // The rotation's blocks are expressions, evaluated in the walk of the step after it.
    expect(kinds.sort()).toEqual(['run-start', 'step-start', 'step-done', ...walk, ...walk, 'run-done'].sort());
    for (const index of [1, 2]) {
      const progress = events.filter((event) => event.type === 'progress' && event.step === index) as Extract<
        RunEvent,
        { type: 'progress' }
      >[];
      const done = progress.map((event) => event.done);
      expect(done).toEqual([...done].sort((a, b) => a - b));
      expect(done.at(-1)).toBe(progress[0].total);
      expect(new Set(progress.map(({ total }) => total)).size).toBe(1);
    }
    expect(events.at(-1)).toMatchObject({ type: 'run-done' });
    expect(milliseconds).toBeGreaterThanOrEqual(0);
  });

  it('carry what methods log, warn of and report', async () => {
    const talkative = defineMethod({
      name: 'test-talkative',
      version: 1,
      options: z.strictObject({}),
      async quantizeLinear(linear, { log, warn, progress }) {
        log({ dampening: 0.1 });
        warn('DAMPED', 'needed ten times the dampening');
        progress(1, 2);
        return linear;
      },
    });
    const events: RunEvent[] = [];
    const path = 'model.layers.1.mlp.up_proj';
    const { warnings } = await run([nearest({ targets: ['**.0.**'] }), talkative({ targets: [path] })], {
      onEvent: (event) => void events.push(event),
    });
    expect(events).toContainEqual({ type: 'log', step: 1, path, record: { dampening: 0.1 } });
    expect(warnings).toEqual([{ type: 'warning', step: 1, path, code: 'DAMPED', message: 'needed ten times the dampening' }]);
    expect(events).toContainEqual({ type: 'progress', step: 1, stage: 'quantize', path, done: 0, total: 1 });
  });

  it('a listener that throws changes nothing but what the result says of it', async () => {
    const weights = async (onEvent?: (event: RunEvent) => void): Promise<unknown> => {
      const result = await run([searched({ bits: 3 })], onEvent && { onEvent });
      return [
        result.listenerFailure,
        await Promise.all(result.model.blocks.map((block) => backend.float64(block.linears['mlp.down_proj'].effectiveWeight()))),
      ];
    };
    const [, expected] = (await weights()) as unknown[];
    const thrown = new Error('no');
    const throwing = (): void => {
      throw thrown;
    };
    expect(await weights(throwing)).toEqual([thrown, expected]);
    expect(await weights((() => Promise.reject(thrown)) as never)).toEqual([thrown, expected]);
  });
});

describe('cancellation', () => {
  it('lets a timer stop a run whose backend never waits', async () => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error('enough')), 5);
    const endless = defineMethod({
      name: 'test-endless',
      version: 1,
      options: z.strictObject({}),
      async finetune(given, context) {
        let evaluations = 0;
        while (evaluations >= 0) {
          await context.backend.evaluate([tensor([1])]);
          evaluations++;
        }
        return given;
      },
    });
    const error: unknown = await run([endless()], { signal: controller.signal }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'ABORTED', cause: new Error('enough') });
  });
});

describe('errors of methods', () => {
  const failing = (error: unknown) =>
    defineMethod({ name: 'test-failing', version: 1, options: z.strictObject({}), quantizeLinear: () => Promise.reject(error) });

  it('say the step and the Linear, and keep their code and cause', async () => {
    const where = /^[A-Z_]+: step 1 \(test-failing\) at model\.layers\.0\.mlp\.up_proj: (?!.*[A-Z]+_[A-Z]+)/;
    const recipe = (error: unknown): Recipe => [nearest({ targets: ['**.o_proj'] }), failing(error)({ targets: ['**.up_proj'] })];
    const foreign = new TypeError('x is not a function');
    await expect(run(recipe(foreign))).rejects.toMatchObject({
      code: 'METHOD_FAILED',
      cause: foreign,
      message: expect.stringMatching(where),
    });
    await expect(run(recipe(new LowbitError('SHAPE_MATMUL', 'sizes 3 and 4')))).rejects.toMatchObject({
      code: 'SHAPE_MATMUL',
      message: expect.stringMatching(where),
    });
    const placed = new LowbitError('GROUP_SIZE', 'model.layers.0.mlp.up_proj: no');
    await expect(run(recipe(placed))).rejects.toBe(placed);
  });

  it('name a Linear that came back in another shape', async () => {
    const wrong = defineMethod({
      name: 'test-wrong',
      version: 1,
      options: z.strictObject({}),
      quantizeLinear: async (_linear, { path }) =>
        createToyModel().blocks[0].linears[path.includes('down') ? 'mlp.up_proj' : 'mlp.down_proj'],
    });
    await expect(run([wrong({ targets: ['**.up_proj'] })])).rejects.toMatchObject({
      code: 'METHOD_SHAPE',
      message: expect.stringMatching(/test-wrong made \[32, 48\] of \[48, 32\]/),
    });
  });
});
