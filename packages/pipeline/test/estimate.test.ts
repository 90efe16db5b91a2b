// Estimates against what is really computed: products of a run are counted graph by graph, on a backend that also runs them.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { add, type Backend, defineMethod, type Linear, matmul, mul, reshape, type Tensor, tensor } from '@lowbit/core';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { graphCost } from '../src/estimate-graph.js';
import { type EstimateOptions, estimateRun, measureRates, quantize, secondsOf } from '../src/index.js';
import { nearest, searched } from './methods/round.js';

const model = createToyModel({ seed: 1 });
const calibration = createToyTokens({ seed: 2 });
const options: Omit<EstimateOptions, 'recipe'> = {
  model,
  calibration: { windows: 6, tokens: 12, batch: 2 },
  propagate: 'quantized',
  hasStore: false,
  memory: Number.POSITIVE_INFINITY,
};

/** A backend that adds up the products of all that it evaluates. */
function counting(): { readonly backend: Backend; flops(): number } {
  const backend = createReferenceBackend();
  let flops = 0;
  const evaluate: Backend['evaluate'] = (tensors, given) => {
    flops += graphCost(tensors).flops;
    return backend.evaluate(tensors, given);
  };
  return { backend: { ...backend, statistics: backend.statistics, evaluate, dispose: () => backend.dispose() }, flops: () => flops };
}

const same = async (_: Linear, quantized: Linear): Promise<Linear> => quantized;

describe('graphCost', () => {
  const leaf = (rows: number, columns: number): Tensor => tensor(new Float32Array(rows * columns), [rows, columns]);

  it('counts 2·m·k·n for each product, through composite operations and transposes, and shared nodes once', () => {
    const [a, b] = [leaf(3, 5), leaf(3, 7)];
    const product = matmul(a, b, { transposeA: true });
    expect(graphCost([product, add(product, product)]).flops).toBe(2 * 5 * 3 * 7);
    const x = tensor(new Float32Array(2 * 12 * 32), [2, 12, 32]);
    const weights = Object.values(model.blocks[0].linears).reduce((total, one) => total + one.inFeatures * one.outFeatures, 0);
    // Scores and values of 12 positions in 4 heads of 8.
    expect(graphCost([model.blocks[0].forward(x)]).flops).toBe(2 * 24 * weights + 2 * 2 * (2 * 4 * 12 * 12 * 8));
  });

  it('has the values that live at once, which a reshaped one shares', () => {
    const a = leaf(4, 4);
    const once = mul(a, a);
    // Each value of 64 bytes goes when the next one is there.
    expect(graphCost([mul(mul(once, a), a)]).bytes).toBe(128);
    expect(graphCost([mul(reshape(once, [2, 8]), reshape(a, [2, 8]))]).bytes).toBe(128);
    expect(graphCost([mul(mul(once, a), once)])).toEqual({ flops: 0, elements: 48, bytes: 192 });
  });
});

describe('estimateRun', () => {
  it.each(['quantized', 'dense'] as const)('has the products of a walk, propagating %s outputs', async (propagate) => {
    const recipe = [searched({ bits: 3, targets: ['!**.1.mlp.*'] })];
    const { backend, flops } = counting();
    await quantize({ model, backend, recipe, calibration, propagate, nearest: same });
    expect(estimateRun({ ...options, recipe, propagate }).steps[0].cost.flops).toBe(flops());
  });

  it('has those of telling how far Linears are from the dense ones after a refinement', async () => {
    const idle = defineMethod({ name: 'test-idle', version: 1, options: z.strictObject({}), refineBlock: async (block) => block });
    const { backend, flops } = counting();
    const recipe = [idle({ targets: ['!**.1.mlp.*'] })];
    await quantize({ model, backend, recipe, calibration, nearest: same });
    expect(estimateRun({ ...options, recipe }).steps[0].cost.flops).toBe(flops());
  });

  it('has those of a step that reads no data, which has none', () => {
    const { steps, heldBytes } = estimateRun({ ...options, recipe: [nearest()], calibration: undefined });
    expect(steps).toMatchObject([{ method: 'test-nearest', targets: 14, cost: { flops: 0 } }]);
    expect(heldBytes).toBeGreaterThan(0);
  });

  it('adds what a method says of its step, which sees the workload', () => {
    const seen: unknown[] = [];
    const costly = defineMethod({
      name: 'test-costly',
      version: 1,
      options: z.strictObject({ factor: z.number() }),
      quantizeLinear: async (linear) => linear,
      cost(work) {
        seen.push(work);
        return { flops: work.options.factor * 1000, elements: 0, bytes: 1e9 };
      },
    });
    const overrides = { '**.mlp.*': { factor: 3 } };
    const { steps } = estimateRun({ ...options, recipe: [costly({ factor: 2, targets: ['**.0.**'], overrides })] });
    expect(steps[0].cost).toMatchObject({ flops: 2000 });
    expect(steps[0].cost.bytes).toBeGreaterThanOrEqual(1e9);
    expect(seen).toMatchObject([
      { blocks: 1, width: 32, vocabularySize: 64, windows: 6, tokens: 12, forward: { flops: expect.any(Number) } },
    ]);
    const { linears } = seen[0] as { linears: { path: string; options: { factor: number } }[] };
    expect(linears.map((one) => one.options.factor)).toEqual([2, 2, 2, 2, 3, 3, 3]);
  });

  it('has finished blocks in memory or in the store, and activations within their limit', () => {
    const recipe = [searched({ bits: 3 })];
    const [without, kept] = [estimateRun({ ...options, recipe }), estimateRun({ ...options, recipe, hasStore: true })];
    expect([without.storeBytes, kept.heldBytes]).toEqual([0, 0]);
    expect(kept.storeBytes).toBeGreaterThan(without.heldBytes);
    const limited = estimateRun({ ...options, recipe, hasStore: true, memory: 100 });
    // 6 windows of 12 tokens of 32 floats.
    expect(kept.steps[0].cost.bytes - limited.steps[0].cost.bytes).toBe(6 * 12 * 32 * 4 - 100);
  });

  it('has the bytes of codes and scales on disk, and 16 bits of what no step quantizes', () => {
    const bytes = (targets: string[]) => estimateRun({ ...options, recipe: [searched({ bits: 4, groupSize: 16, targets })] }).outputBytes;
    // 14 Linears of two blocks; in up_proj 48 · 32 weights of 4 + 32/16 bits.
    expect(bytes(['**.0.mlp.down_proj']) - bytes(['**.0.mlp.down_proj', '**.0.mlp.up_proj'])).toBe((48 * 32 * (16 - 6)) / 8);
  });

  it('refuses what a run would refuse', () => {
    expect(() => estimateRun({ ...options, recipe: [searched({ targets: ['nothing'] })] })).toThrow('TARGETS_EMPTY');
  });
});

it('time is what the rates of an engine make of it', async () => {
  const rates = { flops: 1e9, elements: 1e8 };
  const begun = secondsOf({ flops: 0, elements: 0, bytes: 0 }, 0, rates);
  const one = secondsOf({ flops: 1e9, elements: 0, bytes: 0 }, 0, rates) - begun;
  expect(secondsOf({ flops: 3e9, elements: 0, bytes: 1 }, 0, rates) - begun).toBeCloseTo(3 * one, 9);
  expect(secondsOf({ flops: 1e9, elements: 1e8, bytes: 0 }, 0, rates) - begun).toBeCloseTo(one + 1, 9);
  expect(secondsOf({ flops: 0, elements: 0, bytes: 0 }, 10, rates)).toBeGreaterThan(begun);
  const backend: Backend = { ...createReferenceBackend(), evaluate: async () => [] as never };
  const measured = await measureRates(backend);
  expect([measured.flops > 0, measured.elements > 0]).toEqual([true, true]);
});
