// EMEF as a method: the contract, the start, what it learns, what it keeps and leaves alone, and what it says.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createReferenceBackend } from '@lowbit/backend-reference';
import {
  type Backend,
  crossEntropy,
  defineMethod,
  type Linear,
  type Model,
  mean,
  memoryStore,
  type Recipe,
  type RunEvent,
  read,
  readFloats,
  readNumber,
  reshape,
  roundToFloat16,
  slice,
  type Tensor,
  tensor,
} from '@lowbit/core';
import { type QuantizeOptions, quantize } from '@lowbit/pipeline';
import { ActivationQuantizedLinear, LowRankLinear, linearKinds, QuantizedLinear } from '@lowbit/quant';
import { createToyModel, createToyTokens, describeMethod } from '@lowbit/testkit';
import { afterAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { type EmefInput, emef, lrec } from '../src/index.js';
import { rounding } from './rounding.js';
import { linearsOf, logitsOn, toyRun } from './toy-run.js';

const backend = await createOnnxBackend({ threads: 1, spin: false });
afterAll(() => backend.dispose());
const base = rounding({ bits: 2, groupSize: 16 });
const quick: EmefInput = { rank: 2, epochs: 1, batchWindows: 2, learningRate: 0.01 };

describeMethod(emef, {
  quantize,
  createBackend: createReferenceBackend,
  options: quick,
  override: { rank: 3 },
  kinds: linearKinds,
  prepare: [base],
});

const dense = createToyModel({ seed: 12, outliers: 2 });
const calibration = createToyTokens({ seed: 13, batchCount: 4, batchSize: 2, tokens: 10 });

async function run(recipe: Recipe, more: Partial<QuantizeOptions> = {}) {
  const { model, records, warnings } = await toyRun({ model: dense, backend, recipe, calibration, ...more });
  const log: Readonly<Record<string, unknown>> = records.findLast(({ lossAfter }) => lossAfter !== undefined) ?? {};
  return { model, log, rounds: records.filter(({ round }) => round !== undefined), warnings: warnings.map(({ code }) => code) };
}

const logitsOf = async (model: Model): Promise<number[]> => logitsOn(backend, model, await calibration.at(0));

/** Mean cross-entropy of the next token on all windows, as one graph. */
async function lossOf(model: Model): Promise<number> {
  let total = 0;
  for (let i = 0; i < calibration.length; i++) {
    const tokens = await calibration.at(i);
    const [windows, length] = tokens.shape;
    const before = slice(model.forward(tokens), 1, 0, length - 1);
    const next = reshape(slice(tokens, 1, 1, length), [windows, length - 1]);
    const [loss] = await backend.evaluate([mean(crossEntropy(before, next))]);
    total += (await readNumber(loss)) / calibration.length;
  }
  return total;
}

const { model: quantized } = await run([base]);

describe('emef', () => {
  it('begins as the quantized model, bit for bit', async () => {
    const { model, log } = await run([base, emef({ ...quick, learningRate: 1e-30, keepBest: false, holdOut: 0 })]);
    expect(linearsOf(model).every(([, linear]) => linear instanceof LowRankLinear)).toBe(true);
    expect(await logitsOf(model)).toEqual(await logitsOf(quantized));
    expect(log['lossAfter']).toBe(log['lossBefore']);
    expect(log['lossBefore']).toBeCloseTo(await lossOf(quantized), 5);
  });

  it('learns the text, and leaves codes and scales as they were', async () => {
    const { model, log, rounds, warnings } = await run([base, emef({ ...quick, rank: 4, epochs: 12, holdOut: 0 })]);
    expect(log['lossAfter']).toBeLessThan(0.8 * (log['lossBefore'] as number));
    expect(await lossOf(model)).toBeCloseTo(log['lossAfter'] as number, 5);
    // The text is random tokens: what is learned of it leads away from the dense model, which is no fault of a task's.
    expect(warnings).toEqual([]);
    expect(rounds).toHaveLength(12);
    expect(log).toMatchObject({ windows: 8, heldOutWindows: 0, steps: 48, tokens: 960, ranks: [4], skippedSteps: 0, packedLinears: 14 });
    const before = new Map(linearsOf(quantized));
    let codes = 0;
    for (const [path, linear] of linearsOf(model)) {
      const { down, up, base: kept, scaling } = linear as LowRankLinear;
      const { weight } = before.get(path) as QuantizedLinear;
      expect(kept, path).toBeInstanceOf(QuantizedLinear);
      expect(await readCodes(kept), path).toEqual(await readCodes(before.get(path)));
      expect(scaling).toBe(4);
      for (const factor of [down, up]) expect((await readFloats(factor)).every((x) => roundToFloat16(x) === x)).toBe(true);
      expect(linear.storageBits - weight.storageBits).toBe(16 * 4 * (linear.inFeatures + linear.outFeatures));
      codes += weight.codes.size;
    }
    expect(log['packedBytes']).toBe(codes / 4);
  });

  it('never ends above its start where it keeps the best, and says so where it does not', async () => {
    const first = emef({ ...quick, rank: 4, epochs: 12, holdOut: 0 });
    const wild: EmefInput = { ...quick, epochs: 3, learningRate: 3, schedule: 'constant', clipNorm: 0, holdOut: 0 };
    const tuned = await run([base, first]);
    const kept = await run([base, first, emef(wild)]);
    expect(kept.log).toMatchObject({ keptRound: 0, lossBefore: tuned.log['lossAfter'], lossAfter: tuned.log['lossAfter'] });
    expect(kept.warnings).toEqual(['EMEF_NO_GAIN']);
    expect(await logitsOf(kept.model)).toEqual(await logitsOf(tuned.model));
    const last = await run([base, first, emef({ ...wild, keepBest: false })]);
    expect(last.log['lossAfter']).toBeGreaterThan(last.log['lossBefore'] as number);
    expect(last.warnings).toContain('EMEF_WORSE');
  });

  it('leaves out steps whose gradients are not finite', async () => {
    let isBroken = true;
    // The first gradient of an adapter is spoiled.
    const spoiling: Backend = {
      ...backend,
      get statistics() {
        return backend.statistics;
      },
      async evaluate(tensors, options) {
        const results = await backend.evaluate(tensors as readonly Tensor[], options);
        const factor = results.find(({ shape }) => shape.length === 2 && shape[0] === 2 && shape[1] === 32);
        if (isBroken && factor && tensors.length > 1) {
          isBroken = false;
          const broken = tensor(new Float32Array(factor.size).fill(Number.NaN), factor.shape);
          return results.map((t) => (t === factor ? broken : t)) as never;
        }
        return results as never;
      },
    };
    const options = { ...quick, epochs: 4, holdOut: 0 };
    const { log, warnings, model } = await run([base, emef(options)], { backend: spoiling });
    expect(isBroken).toBe(false);
    expect(log['skippedSteps']).toBe(1);
    expect(warnings).toContain('EMEF_SKIPPED');
    expect(log['lossAfter']).toBeLessThan(log['lossBefore'] as number);
    expect((await logitsOf(model)).every(Number.isFinite)).toBe(true);
  });

  it('survives a loss that is not finite', async () => {
    const { log, warnings, model } = await run([
      base,
      emef({ ...quick, learningRate: 1e30, clipNorm: 0, schedule: 'constant', warmup: 0 }),
    ]);
    expect(warnings).toContain('EMEF_DIVERGED');
    expect(log['keptRound']).toBe(0);
    expect(await logitsOf(model)).toEqual(await logitsOf(quantized));
  });

  it('gives the same, but for rounding, however many windows are computed at once', async () => {
    const options: EmefInput = { ...quick, batchWindows: 3, epochs: 3, holdOut: 0 };
    const together = await run([base, emef({ ...options, windowsAtOnce: 3 })]);
    for (const windowsAtOnce of [1, 2]) {
      const { log } = await run([base, emef({ ...options, windowsAtOnce })]);
      expect(log['lossBefore']).toBeCloseTo(together.log['lossBefore'] as number, 5);
      expect(log['lossAfter']).toBeCloseTo(together.log['lossAfter'] as number, 3);
    }
  });

  it('stacks an adapter on a correction that stays, or trains on the one that is there', async () => {
    const correction = lrec({ rank: 3, epochs: 2, batchWindows: 2, learningRate: 0.01, holdOut: 0 });
    const corrected = new Map(linearsOf((await run([base, correction])).model));
    const stacked = await run([base, correction, emef({ ...quick, epochs: 4, holdOut: 0 })]);
    for (const [path, linear] of linearsOf(stacked.model)) {
      const { rank, base: kept } = linear as LowRankLinear;
      expect([rank, (kept as LowRankLinear).rank, (kept as LowRankLinear).base.kind], path).toEqual([2, 3, 'affine']);
      expect(await factorsOf(kept), path).toEqual(await factorsOf(corrected.get(path)));
    }
    const continued = await run([base, correction, emef({ ...quick, epochs: 4, holdOut: 0, stack: false })]);
    for (const [path, linear] of linearsOf(continued.model)) {
      expect(linear, path).toMatchObject({ rank: 3, base: { kind: 'affine' } });
      expect(await factorsOf(linear), path).not.toEqual(await factorsOf(corrected.get(path)));
    }
    for (const { log } of [stacked, continued]) expect(log['lossAfter']).toBeLessThan(log['lossBefore'] as number);
  });

  it('trains on what is not quantized, and packs beneath quantized activations', async () => {
    const onDense = await run([emef({ ...quick, epochs: 4, holdOut: 0 })]);
    expect(onDense.log).toMatchObject({ packedLinears: 0, packedBytes: 0 });
    const onActivations = await run([base, quantizeInputs(), emef({ ...quick, epochs: 4, holdOut: 0 })]);
    expect(onActivations.log['packedLinears']).toBe(14);
    for (const [, linear] of linearsOf(onActivations.model))
      expect(linear).toMatchObject({ kind: 'activation-quantized', base: { kind: 'low-rank', base: { kind: 'affine' } } });
    for (const { log } of [onDense, onActivations]) expect(log['lossAfter']).toBeLessThan(log['lossBefore'] as number);
  });

  it('keeps to overrides and targets', async () => {
    const step = emef({ ...quick, maxTokens: 1, targets: ['**.q_proj', '**.v_proj'], overrides: { '**.v_proj': { rank: 5, alpha: 10 } } });
    for (const [path, linear] of linearsOf((await run([base, step])).model)) {
      const { rank, scaling } = linear as Partial<LowRankLinear>;
      expect([rank, scaling], path).toEqual(path.endsWith('q_proj') ? [2, 8] : path.endsWith('v_proj') ? [5, 2] : [undefined, undefined]);
    }
    await expect(run([base, emef({ ...quick, rank: 33 })])).rejects.toMatchObject({ code: 'ADAPTER_RANK' });
    const { log } = await run([base, emef({ ...quick, rank: undefined, overhead: 0.1, maxTokens: 1 })]);
    expect(log['overhead']).toBeGreaterThan(0.05);
    expect(log['overhead']).toBeLessThanOrEqual(0.1);
  });

  it('goes on after an interruption, to the same bits', async () => {
    const recipe = [base, emef({ ...quick, epochs: 3, dropout: 0.2, windowsAtOnce: 1 })];
    const whole = await run(recipe, { store: memoryStore(), kinds: linearKinds });
    const store = memoryStore();
    const controller = new AbortController();
    const onEvent = (event: RunEvent): void => {
      if (event.type === 'log' && event.record['round'] === 4) controller.abort();
    };
    const interrupted = quantize({
      model: dense,
      backend,
      recipe,
      calibration,
      seed: 3,
      store,
      kinds: linearKinds,
      onEvent,
      signal: controller.signal,
    });
    await expect(interrupted).rejects.toMatchObject({ code: 'ABORTED' });
    const resumed = await run(recipe, { store, kinds: linearKinds });
    expect(resumed.rounds.length).toBeLessThan(whole.rounds.length);
    expect(await logitsOf(resumed.model)).toEqual(await logitsOf(whole.model));
    expect(resumed.log['losses']).toEqual(whole.log['losses']);
  });

  it('asks for data', async () => {
    await expect(quantize({ model: dense, backend, recipe: [emef(quick)] })).rejects.toMatchObject({ code: 'CALIBRATION_EMPTY' });
  });

  it('has the published settings in its preset', () => {
    expect(emef({ preset: 'paper' }).options).toMatchObject({
      rank: 8,
      alpha: 16,
      dropout: 0.05,
      learningRate: 3e-4,
      schedule: 'linear',
      warmup: 100,
      epochs: 3,
      batchWindows: 128,
      windowsAtOnce: 1,
      keepBest: true,
      stack: true,
    });
    expect(emef({ overhead: 0.02 }).options).toMatchObject({ rank: undefined, overhead: 0.02, alpha: undefined });
    expect(emef({ overhead: 0.02, alpha: 4 }).options).toMatchObject({ rank: undefined, overhead: 0.02, alpha: 4 });
    expect(emef().options).toMatchObject({ rank: 8, alpha: 16, dropout: 0, schedule: 'cosine', adapterDtype: 'float16' });
  });
});

const quantizeInputs = defineMethod({
  name: 'quantize-inputs',
  version: 1,
  options: z.strictObject({}),
  quantizeLinear: async (linear) => new ActivationQuantizedLinear(linear, { bits: 8 }),
});

async function readCodes(linear: Linear | undefined): Promise<unknown> {
  return read((linear as QuantizedLinear).weight.codes);
}

async function factorsOf(linear: Linear | undefined): Promise<Float32Array[]> {
  const { down, up } = linear as LowRankLinear;
  return [await readFloats(down), await readFloats(up)];
}
