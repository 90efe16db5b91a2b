// Training block by block: the contract, what it lowers, what it keeps, and what it leaves alone.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { type Linear, type Model, memoryStore, type Recipe, type RunEvent, read, readFloats, tensorsOf } from '@lowbit/core';
import { type QuantizeOptions, quantize } from '@lowbit/pipeline';
import { activations } from '@lowbit/quad';
import { linearKinds, QuantizedLinear } from '@lowbit/quant';
import { rtn } from '@lowbit/rtn';
import { createToyModel, createToyTokens, describeMethod } from '@lowbit/testkit';
import { lastHidden } from '@lowbit/train';
import { afterAll, describe, expect, it } from 'vitest';
import { type QatBlocksInput, qatBlocks } from '../src/index.js';

const backend = await createOnnxBackend({ threads: 1, spin: false });
afterAll(() => backend.dispose());
const quick: QatBlocksInput = {
  bits: 2,
  groupSize: 16,
  learningRate: 2e-3,
  scaleLearningRate: 5e-3,
  batchWindows: 2,
  holdOut: 0,
  epochs: 4,
};
const format = { bits: 2, groupSize: 16 } as const;

describeMethod(qatBlocks, {
  quantize,
  createBackend: () => createOnnxBackend({ threads: 1, spin: false }),
  kinds: linearKinds,
  options: { ...quick, epochs: 1 },
  override: { bits: 4 },
});

const dense = createToyModel({ seed: 7, outliers: 2 });
const calibration = createToyTokens({ seed: 11 });

interface Outcome {
  readonly model: Model;
  /** One record a block. */
  readonly logs: readonly Readonly<Record<string, unknown>>[];
  readonly warnings: readonly string[];
}

async function run(recipe: Recipe, more: Partial<QuantizeOptions> = {}): Promise<Outcome> {
  const logs: Readonly<Record<string, unknown>>[] = [];
  const onEvent = (event: RunEvent): void => {
    if (event.type === 'log' && event.record['lossBefore'] !== undefined) logs.push(event.record);
  };
  const { model, warnings } = await quantize({ model: dense, backend, recipe, calibration, seed: 3, onEvent, ...more });
  return { model, logs, warnings: warnings.map(({ code }) => code) };
}

async function valuesOf(model: Model): Promise<Map<string, unknown>> {
  const values = new Map<string, unknown>();
  for (const [name, t] of tensorsOf(model)) values.set(name, await read(t));
  return values;
}

const linearsOf = (model: Model): Linear[] => model.blocks.flatMap(({ linears }) => Object.values(linears));
const figure = (log: Readonly<Record<string, unknown>>, name: string): number => log[name] as number;

/** Mean square difference of the last block's outputs from those of the dense model. */
async function outputError(model: Model): Promise<number> {
  let [total, count] = [0, 0];
  for (let i = 0; i < calibration.length; i++) {
    const tokens = await calibration.at(i);
    const [own, wanted] = await Promise.all([model, dense].map(async (one) => readFloats(await lastHidden(backend, one, tokens))));
    total += own.reduce((sum, x, j) => sum + (x - wanted[j]) ** 2, 0);
    count += own.length;
  }
  return total / count;
}

const rounded = await run([rtn(format)]);
const trained = await run([qatBlocks(quick)]);

describe('qat-blocks', () => {
  it('makes affine Linears, bit for bit those of rounding to nearest where nothing is learned', async () => {
    const { model } = await run([qatBlocks({ ...quick, learningRate: 1e-30, scaleLearningRate: 1e-30, keepBest: false, epochs: 1 })]);
    expect(await valuesOf(model)).toEqual(await valuesOf(rounded.model));
    for (const linear of linearsOf(trained.model)) expect(linear).toMatchObject({ kind: 'affine', weight: { bits: 2, groupSize: 16 } });
  });

  it('lowers the error of every block, and that of the model', async () => {
    const { logs, warnings } = trained;
    expect(warnings).toEqual([]);
    expect(logs).toHaveLength(dense.blocks.length);
    for (const log of logs) {
      expect(figure(log, 'lossAfter')).toBeLessThan(0.9 * figure(log, 'lossBefore'));
      expect(log).toMatchObject({ windows: 6, heldOutWindows: 0, steps: 12, target: 'dense-stream' });
    }
    const error = await outputError(trained.model);
    // Without held-out windows the error of the last block is the one that was judged.
    expect(error).toBeCloseTo(figure(logs[logs.length - 1], 'lossAfter'), 5);
    expect(error).toBeLessThan(0.9 * (await outputError(rounded.model)));
  });

  it('aims at the dense stream, or at what the dense block makes of the quantized one', async () => {
    const other = await run([qatBlocks({ ...quick, target: 'quantized-stream' })]);
    const { tokensPerSecond: _, ...sameOfFirst } = trained.logs[0];
    expect(other.logs[0]).toMatchObject({ ...sameOfFirst, target: 'quantized-stream' });
    expect(figure(other.logs[1], 'lossBefore')).toBeLessThan(figure(trained.logs[1], 'lossBefore'));
    expect(figure(other.logs[1], 'lossAfter')).toBeLessThan(figure(other.logs[1], 'lossBefore'));
  });

  it.each(['dense-stream', 'quantized-stream'] as const)('begins with what another step has quantized, %s', async (target) => {
    const { logs, model } = await run([rtn(format), qatBlocks({ ...quick, target })]);
    // Of rounding to nearest, so that both begin in the first block where rounding in this step does.
    expect(figure(logs[0], 'lossGiven')).toBeCloseTo(figure(trained.logs[0], 'lossBefore'), 6);
    for (const log of logs) expect(figure(log, 'lossAfter')).toBeLessThan(0.9 * figure(log, 'lossGiven'));
    for (const linear of linearsOf(model)) expect(linear).toMatchObject({ kind: 'affine', weight: { bits: 2, groupSize: 16 } });
  });

  it('keeps what it was given where training only does harm, and says so', async () => {
    const harm = { ...quick, learningRate: 1, scaleLearningRate: 1, warmup: 0, schedule: 'constant' } as const;
    const kept = await run([rtn(format), qatBlocks({ ...harm, gradientScale: false })]);
    expect(await valuesOf(kept.model)).toEqual(await valuesOf(rounded.model));
    expect(new Set(kept.warnings)).toEqual(new Set(['QAT_NO_GAIN']));
    const last = await run([rtn(format), qatBlocks({ ...harm, keepBest: false })]);
    expect(last.warnings).toContain('QAT_WORSE');
  });

  it('trains scales alone, and norms, where it is told to', async () => {
    const { model } = await run([rtn(format), qatBlocks({ ...quick, train: 'scales', trainNorms: true })]);
    const [before, after] = [await valuesOf(rounded.model), await valuesOf(model)];
    const changed = [...after.keys()].filter((name) => JSON.stringify(after.get(name)) !== JSON.stringify(before.get(name)));
    const fields = new Set(changed.map((name) => name.split('.').at(-1)));
    expect(fields).toEqual(new Set(['scale', 'weight']));
    const isNorm = (name: string): boolean => name.includes('layernorm');
    expect(changed.filter((name) => name.endsWith('.weight')).every(isNorm)).toBe(true);
  });

  it('reaches the weight within a Linear whose inputs are rounded', async () => {
    const { model, logs } = await run([activations({ bits: 8 }), qatBlocks(quick)]);
    for (const linear of linearsOf(model))
      expect(linear).toMatchObject({ kind: 'activation-quantized', base: expect.any(QuantizedLinear) });
    for (const log of logs) expect(figure(log, 'lossAfter')).toBeLessThan(figure(log, 'lossBefore'));
  });

  it('takes the best of several rates, and holds windows out', async () => {
    // The rate of scales goes along: 5e-3 at the second one.
    const { logs } = await run([qatBlocks({ ...quick, learningRate: [1e-6, 2e-3], scaleLearningRate: 2.5e-6 })]);
    for (const log of logs) expect(log['learningRate']).toBe(2e-3);
    const held = await run([qatBlocks({ ...quick, holdOut: 0.34 })]);
    for (const log of held.logs) expect(log).toMatchObject({ heldOutWindows: 2, steps: 8 });
  });

  it('calls what it keeps by its name', async () => {
    const harm = { ...quick, learningRate: 1, scaleLearningRate: 1, warmup: 0, schedule: 'constant' } as const;
    for (const [recipe, name] of [
      [[qatBlocks(harm)], /the start/],
      [[rtn(format), qatBlocks(harm)], /what was given/],
    ] as const) {
      const { warnings } = await quantize({ model: dense, backend, recipe, calibration, seed: 3 });
      expect(warnings.length).toBeGreaterThan(0);
      for (const { code, message } of warnings) expect([code, message]).toEqual(['QAT_NO_GAIN', expect.stringMatching(name)]);
    }
  });

  it('goes on after an interruption, to the same bits', async () => {
    const store = memoryStore();
    const cancel = new AbortController();
    let rounds = 0;
    const onEvent = (event: RunEvent): void => {
      if (event.type === 'progress' && event.stage === 'quantize' && ++rounds === 20) cancel.abort();
    };
    const recipe = [qatBlocks(quick)];
    await expect(run(recipe, { store, kinds: linearKinds, signal: cancel.signal, onEvent })).rejects.toMatchObject({ code: 'ABORTED' });
    const resumed = await run(recipe, { store, kinds: linearKinds });
    expect(await valuesOf(resumed.model)).toEqual(await valuesOf(trained.model));
  });

  it('compiles nothing for a second block of one structure', async () => {
    const compilations: number[] = [];
    for (const blockCount of [1, 3]) {
      const engine = await createOnnxBackend({ threads: 1, spin: false });
      await run([qatBlocks(quick)], { model: createToyModel({ seed: 7, blockCount }), backend: engine });
      compilations.push(engine.statistics.compilations);
      await engine.dispose();
    }
    // The output of a block that another one reads.
    expect(compilations[1] - compilations[0]).toBeLessThanOrEqual(1);
  });

  it('says what it cannot train', async () => {
    await expect(run([qatBlocks({ ...quick, train: 'scales' })])).rejects.toMatchObject({ code: 'LINEAR_NOT_AFFINE' });
    await expect(run([qatBlocks(quick)], { calibration: createToyTokens({ batchCount: 0 }) })).rejects.toMatchObject({
      code: 'CALIBRATION_EMPTY',
    });
    expect(() => qatBlocks({ ...quick, patience: 2, keepBest: false })).toThrow(expect.objectContaining({ code: 'OPTIONS_INVALID' }));
    expect(() => qatBlocks({ preset: 'paper' as never })).toThrow(expect.objectContaining({ code: 'OPTIONS_INVALID' }));
  });

  it('repeats the settings of EfficientQAT', () => {
    expect(qatBlocks({ preset: 'efficientqat', epochs: 3 }).options).toMatchObject({
      trainNorms: true,
      learningRate: 2e-5,
      scaleLearningRate: 5e-3,
      clipNorm: 0,
      epochs: 3,
      batchWindows: 2,
      target: 'dense-stream',
    });
  });
});
