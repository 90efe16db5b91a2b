// The closed-form corrections in a recipe: what they do to a model, the ranks they get, and what they stand on.
import { createReferenceBackend } from '@lowbit/backend-reference';
import type { Model, Recipe, RunEvent } from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { ActivationQuantizedLinear, closedForms, LowRankLinear } from '@lowbit/quant';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { describe, expect, it } from 'vitest';
import { lowRankCorrection, lrec } from '../src/index.js';
import { norm, type Rows, subtract, toRows, weightOf } from './matrices.js';
import { rounding } from './rounding.js';
import { linearsOf, logitsOn } from './toy-run.js';

const backend = createReferenceBackend();
const base = rounding({ bits: 2, groupSize: 16 });
const dense = createToyModel({ seed: 12, outliers: 2, biases: true });
const calibration = createToyTokens({ seed: 13, batchCount: 2, batchSize: 5, tokens: 12 });

interface Run {
  readonly model: Model;
  readonly records: ReadonlyMap<string, Readonly<Record<string, unknown>>>;
  readonly warnings: readonly string[];
}

async function run(recipe: Recipe, more: Partial<Parameters<typeof quantize>[0]> = {}): Promise<Run> {
  const records = new Map<string, Readonly<Record<string, unknown>>>();
  const onEvent = (event: RunEvent): void => {
    if (event.type === 'log') records.set(event.path, event.record);
  };
  const { model, warnings } = await quantize({ model: dense, backend, recipe, calibration, seed: 3, onEvent, ...more });
  return { model, records, warnings: warnings.map(({ code }) => code) };
}

const ranksOf = (model: Model): [string, number][] =>
  linearsOf(model).map(([path, linear]) => [path, linear instanceof LowRankLinear ? linear.rank : 0]);

describe('low-rank-correction in a recipe', () => {
  it('brings the model closer to the dense one in every form that keeps the codes', async () => {
    const logits = async (model: Model): Promise<Rows> => toRows(await logitsOn(backend, model, await calibration.at(0)), 64);
    const whole = await logits(dense);
    const { model: quantized } = await run([base]);
    const before = norm(subtract(await logits(quantized), whole));
    for (const form of Object.keys(closedForms) as (keyof typeof closedForms)[]) {
      const { model, records, warnings } = await run([base, lowRankCorrection({ form, rank: 8 })]);
      expect(norm(subtract(await logits(model), whole)), form).toBeLessThan(0.8 * before);
      expect(warnings, form).toEqual([]);
      for (const [path, linear] of linearsOf(model)) {
        expect(linear, path).toMatchObject({ kind: 'low-rank', rank: 8, base: { kind: 'affine' }, factorDtype: 'float16' });
        const { errorBefore, errorAfter } = records.get(path) as { errorBefore: number; errorAfter: number };
        expect(errorAfter, path).toBeLessThan(errorBefore);
      }
    }
  });

  it('needs no data for forms that look at weights alone', async () => {
    for (const form of ['svd', 'loftq', 'pissa'] as const) {
      const { model } = await quantize({ model: dense, backend, recipe: [base, lowRankCorrection({ form, rank: 2 })] });
      expect(linearsOf(model).every(([, linear]) => linear instanceof LowRankLinear)).toBe(true);
    }
    const recipe = [base, lowRankCorrection({ form: 'qera-approx', rank: 2 })];
    await expect(quantize({ model: dense, backend, recipe })).rejects.toMatchObject({ code: 'CALIBRATION_EMPTY' });
  });

  it('gets the ranks that lrec gets for the same overhead, targets and overrides', async () => {
    for (const overhead of [0.05, 0.11, 0.3]) {
      const settings = {
        ...{ overhead, targets: ['**', '!**.o_proj'] },
        overrides: { '**.down_proj': { rank: 5 }, '**.0.mlp.up_proj': { adapterDtype: 'float32' }, '**.k_proj': { overhead: 0.02 } },
      } as const;
      const ours = ranksOf((await run([base, lowRankCorrection({ ...settings, form: 'svd' })])).model);
      const theirs = ranksOf((await run([base, lrec({ ...settings, maxTokens: 1, epochs: 1, batchWindows: 2, keepBest: false })])).model);
      expect(ours).toEqual(theirs);
      expect(new Set(ours.map(([, rank]) => rank)).size).toBeGreaterThan(2);
    }
  });

  it('leaves Linears alone that the overhead has no rank for', async () => {
    const overhead = 0.05;
    const { model, records } = await run([base, lowRankCorrection({ form: 'svd', overhead })]);
    const without = linearsOf(model).filter(([, linear]) => linear.kind === 'affine');
    expect(without.length).toBeGreaterThan(0);
    for (const [path] of without) expect(records.get(path)).toEqual({ form: 'svd', rank: 0 });
    await expect(run([base, lowRankCorrection({ form: 'svd', overhead: 1e-5 })])).rejects.toMatchObject({ code: 'ADAPTER_OVERHEAD' });
  });

  it('stands on the adapter that a Linear has already, and corrects what that has left', async () => {
    const { model: first } = await run([base, lowRankCorrection({ form: 'svd', rank: 2 })]);
    const { model, records } = await run([base, lowRankCorrection({ form: 'svd', rank: 2 }), lowRankCorrection({ form: 'svd', rank: 3 })]);
    for (const [i, [path, linear]] of linearsOf(model).entries()) {
      expect(linear, path).toMatchObject({ rank: 3, base: { kind: 'low-rank', rank: 2, base: { kind: 'affine' } } });
      const lower = (linear as LowRankLinear).base;
      const [, before] = linearsOf(first)[i];
      expect(await weightOf(backend, lower)).toEqual(await weightOf(backend, before));
      const { errorBefore, errorAfter } = records.get(path) as { errorBefore: number; errorAfter: number };
      expect(errorAfter, path).toBeLessThan(errorBefore);
    }
  });

  it('goes inside what quantizes the activations', async () => {
    const wrapped = dense.with({
      blocks: dense.blocks.map((block) =>
        block.with({
          linears: Object.fromEntries(
            Object.entries(block.linears).map(([name, linear]) => [name, new ActivationQuantizedLinear(linear, { bits: 8 })]),
          ),
        }),
      ),
    });
    const { model } = await run([base, lowRankCorrection({ rank: 2 })], { model: wrapped });
    for (const [, linear] of linearsOf(model))
      expect(linear).toMatchObject({ kind: 'activation-quantized', base: { kind: 'low-rank', base: { kind: 'affine' } } });
  });

  it('is a start for lrec', async () => {
    const training = { rank: 2, epochs: 1, batchWindows: 2 } as const;
    const { model, records } = await run([base, lowRankCorrection({ form: 'svd', rank: 3, alpha: 6 }), lrec(training)]);
    for (const [, linear] of linearsOf(model)) expect(linear).toMatchObject({ rank: 3, scaling: 2, base: { kind: 'affine' } });
    expect(records.get('model')).toBeDefined();
  });

  it('says what it cannot do before any weight is read', async () => {
    const refused: [Recipe, string][] = [
      [[lowRankCorrection()], 'LINEAR_NOT_QUANTIZED'],
      [[base, lowRankCorrection({ rank: 33 })], 'ADAPTER_RANK'],
      [[base, lowRankCorrection({ form: 'svd', rank: 1 }), lowRankCorrection({ form: 'loftq', rank: 1 })], 'LINEAR_NOT_AFFINE'],
    ];
    for (const [recipe, code] of refused) await expect(run(recipe)).rejects.toMatchObject({ code });
    expect(() => lowRankCorrection({ form: 'zero' as 'svd' })).toThrow(expect.objectContaining({ code: 'OPTIONS_INVALID' }));
    expect(lowRankCorrection().options).toMatchObject({ form: 'qera-exact', overhead: 0.05, dampening: 0.03, rounds: 5 });
  });
});
