// Tuning: the contract, what it trains, the gradients that it follows, and that it lowers its loss.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createReferenceBackend } from '@lowbit/backend-reference';
import {
  type Linear,
  type Model,
  materialize,
  memoryStore,
  type Recipe,
  type RunEvent,
  read,
  readFloats,
  roundToFloat16,
  type Tensor,
  tensor,
  tensorsOf,
} from '@lowbit/core';
import { type QuantizeOptions, quantize } from '@lowbit/pipeline';
import { linearKinds } from '@lowbit/quant';
import { createToyModel, describeMethod } from '@lowbit/testkit';
import { type NamedTensors, nextTokenLoss, windowLoss } from '@lowbit/train';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { quad, rotate, type TuneInput, tune } from '../src/index.js';
import { storedColumns, storedScales } from '../src/stored.js';
import { trainableOf } from '../src/tune/trainable.js';
import { arithmetic, outlierColumns, perChannel } from './tune-setting.js';

const backend = await createOnnxBackend({ threads: 1, spin: false });
afterAll(() => backend.dispose());
const quick: TuneInput = { learningRate: 1e-3, batchWindows: 4, holdOut: 0 };

describeMethod(tune, {
  quantize,
  createBackend: () => createOnnxBackend({ threads: 1, spin: false }),
  kinds: linearKinds,
  prepare: [outlierColumns({ rank: 4, bits: 4 }), perChannel()],
  // Random text has nothing to learn but itself, so the last round is kept.
  options: { ...quick, keepBest: false },
  override: { parameters: ['scale'] },
});

const dense = createToyModel({ seed: 7, outliers: 2 });
const base: Recipe = [quad({ rank: 4, outputActivationBits: 4 }), perChannel()];

interface Outcome {
  readonly model: Model;
  readonly log: Readonly<Record<string, unknown>>;
  readonly rounds: readonly unknown[];
  readonly warnings: readonly string[];
}

async function run(recipe: Recipe, more: Partial<QuantizeOptions> = {}): Promise<Outcome> {
  const records: Readonly<Record<string, unknown>>[] = [];
  const onEvent = (event: RunEvent): void => {
    if (event.type === 'log') records.push(event.record);
  };
  const { model, warnings } = await quantize({ model: dense, backend, recipe, calibration: arithmetic, seed: 3, onEvent, ...more });
  const log = records.filter(({ lossAfter }) => lossAfter !== undefined).at(-1) ?? {};
  return { model, log, rounds: records.filter(({ round }) => round !== undefined), warnings: warnings.map(({ code }) => code) };
}

async function logitsOf(model: Model): Promise<number[]> {
  const [logits] = await backend.evaluate([model.forward(await arithmetic.at(0))]);
  return [...(await readFloats(logits))];
}

async function changedNames(before: Model, after: Model): Promise<string[]> {
  const now = tensorsOf(after);
  const changed: string[] = [];
  for (const [name, t] of tensorsOf(before)) {
    const [was, is] = await Promise.all([read(t), read(now.get(name) as Tensor)]);
    if (was.some((x, i) => x !== is[i])) changed.push(name);
  }
  return changed;
}

const fieldOf = (name: string): string => name.split('.').at(-1) as string;
const { model: given } = await run(base);
const long: TuneInput = { ...quick, learningRate: 3e-2, epochs: 8 };
const tuned = await run([...base, tune(long)]);

describe('tune', () => {
  it('begins as the quantized model, bit for bit', async () => {
    const { model, log } = await run([...base, tune({ ...quick, learningRate: 1e-30, keepBest: false })]);
    expect(await changedNames(given, model)).toEqual([]);
    expect(await logitsOf(model)).toEqual(await logitsOf(given));
    expect(log['lossAfter']).toBe(log['lossBefore']);
  });

  it('learns the text in outlier columns and scales, and leaves everything else', async () => {
    const { model, log, warnings } = tuned;
    expect(log['lossAfter']).toBeLessThan(0.7 * (log['lossBefore'] as number));
    // Learning a task leads away from the dense model, which is no fault.
    expect(warnings).toEqual([]);
    const changed = await changedNames(given, model);
    const all = [...tensorsOf(given).keys()].filter((name) => ['outlier', 'scale'].includes(fieldOf(name)));
    expect(changed).toEqual(all);
    expect(changed).toHaveLength(2 * (5 + 7));
    for (const name of changed) {
      const [was, is] = [tensorsOf(given).get(name) as Tensor, tensorsOf(model).get(name) as Tensor];
      const values = await readFloats(is);
      expect(
        values.every((x) => roundToFloat16(x) === x),
        name,
      ).toBe(true);
      if (fieldOf(name) === 'outlier') continue;
      const before = await readFloats(was);
      expect(
        values.every((x, i) => Math.sign(x) === Math.sign(before[i])),
        name,
      ).toBe(true);
    }
  });

  it('counts its parameters: r columns of what reads the stream, a scale for each output of every Linear', () => {
    const { blockCount, headCount, keyValueHeadCount, headDim } = dense.config;
    const [rank, inner, width] = [4, 48, dense.config.hiddenSize];
    const readers = headCount * headDim + 2 * keyValueHeadCount * headDim + 2 * inner;
    expect(tuned.log['outlierParameters']).toBe(rank * blockCount * readers);
    expect(tuned.log['scaleParameters']).toBe(blockCount * (readers + 2 * (width + rank)));
    expect(tuned.log).toMatchObject({ windows: 16, heldOutWindows: 0, steps: 32, tokens: 32 * 4 * 12 });
  });

  it('gains more with outlier columns than from the scales of a rotated model', async () => {
    const scales = await run([rotate({ outputActivationBits: 4 }), perChannel(), tune(long)]);
    expect(scales.log['outlierParameters']).toBe(0);
    const gain = ({ log }: Outcome): number => (log['lossBefore'] as number) - (log['lossAfter'] as number);
    expect(gain(scales)).toBeGreaterThan(0);
    expect(gain(tuned)).toBeGreaterThan(gain(scales));
  });

  it('trains the columns of a model that is not quantized: the control', async () => {
    const unrounded = quad({ rank: 4, activationBits: 16, outputActivationBits: 16 });
    const { log, model } = await run([unrounded, tune({ ...quick, epochs: 2 })]);
    expect(log['lossAfter']).toBeLessThan(log['lossBefore'] as number);
    expect(log['scaleParameters']).toBe(0);
    const { model: before } = await run([unrounded]);
    expect(new Set((await changedNames(before, model)).map(fieldOf))).toEqual(new Set(['outlier']));
  });

  it('moves scales by a share of what they were, whatever that is', async () => {
    const [rate, steps] = [0.01, 2];
    const { model, log } = await run([
      ...base,
      tune({ ...quick, parameters: ['scale'], learningRate: rate, warmup: 0, maxTokens: 96, keepBest: false }),
    ]);
    expect(log['steps']).toBe(steps);
    for (const name of [...tensorsOf(given).keys()].filter((one) => fieldOf(one) === 'scale')) {
      const [was, is] = [await readFloats(tensorsOf(given).get(name) as Tensor), await readFloats(tensorsOf(model).get(name) as Tensor)];
      const shares = [...is].map((x, i) => Math.abs(x / was[i] - 1));
      // Adam's first steps are those of a sign; float16 adds half a thousandth.
      expect(Math.max(...shares), name).toBeLessThan(steps * rate + 1e-3);
      expect(Math.max(...shares), name).toBeGreaterThan(rate / 2);
    }
  });

  it('trains what it is told to, by Linear too', async () => {
    const options: TuneInput = { ...quick, parameters: ['scale'] };
    const { model } = await run([...base, tune({ ...options, overrides: { '**.up_proj': { parameters: ['outlier'] } } })]);
    const changed = await changedNames(given, model);
    expect(changed.filter((name) => name.includes('up_proj')).map(fieldOf)).toEqual(['outlier', 'outlier']);
    expect(new Set(changed.filter((name) => !name.includes('up_proj')).map(fieldOf))).toEqual(new Set(['scale']));
  });

  it('comes closer to the dense model with the loss kd', async () => {
    const { log, warnings } = await run([...base, tune({ ...quick, loss: 'kd', epochs: 3 })]);
    expect(log['lossAfter']).toBeLessThan(log['lossBefore'] as number);
    expect(warnings).toEqual([]);
  });

  it('keeps the start where training only did harm, and says so where it does not', async () => {
    const wild: TuneInput = { ...quick, loss: 'kd', learningRate: 1, clipNorm: 0, warmup: 0 };
    const kept = await run([...base, tune(wild)]);
    expect(kept.log).toMatchObject({ keptRound: 0, lossAfter: kept.log['lossBefore'] });
    expect(kept.warnings).toEqual(['TUNE_NO_GAIN']);
    expect(await changedNames(given, kept.model)).toEqual([]);
    const last = await run([...base, tune({ ...wild, keepBest: false })]);
    expect(last.warnings).toEqual(['TUNE_WORSE', 'FINETUNE_DIVERGED']);
  });

  it('gives the same, but for rounding, however many windows are computed at once', async () => {
    const [whole, parts] = [
      await run([...base, tune({ ...quick, maxTokens: 96 })]),
      await run([...base, tune({ ...quick, maxTokens: 96, windowsAtOnce: 3 })]),
    ];
    expect(parts.log['steps']).toBe(2);
    expect(parts.log['lossAfter']).toBeCloseTo(whole.log['lossAfter'] as number, 5);
  });

  it('goes on after an interruption, to the same bits', async () => {
    const recipe = [...base, tune({ ...quick, epochs: 2 })];
    const whole = await run(recipe, { store: memoryStore(), kinds: linearKinds });
    const store = memoryStore();
    const controller = new AbortController();
    const onEvent = (event: RunEvent): void => {
      if (event.type === 'log' && event.record['round'] === 4) controller.abort();
    };
    await expect(run(recipe, { store, kinds: linearKinds, onEvent, signal: controller.signal })).rejects.toMatchObject({ code: 'ABORTED' });
    const resumed = await run(recipe, { store, kinds: linearKinds });
    expect(resumed.rounds.length).toBeLessThan(whole.rounds.length);
    expect(await changedNames(whole.model, resumed.model)).toEqual([]);
    expect(resumed.log['losses']).toEqual(whole.log['losses']);
  });

  it('says what it cannot train, and asks for data', async () => {
    const nothing = { code: 'TUNE_NOTHING', message: expect.stringMatching(/outlier columns come from quad.*targets or parameters/) };
    await expect(run([tune()])).rejects.toMatchObject(nothing);
    await expect(run([...base, tune({ parameters: ['outlier'], targets: ['**.down_proj'] })])).rejects.toMatchObject(nothing);
    const alien = (linear: Linear): Linear => Object.assign(Object.create(linear) as Linear, { kind: 'alien', map: () => alien(linear) });
    const [first, ...others] = dense.blocks;
    const blocks = [first.with({ linears: { 'mlp.up_proj': alien(first.linears['mlp.up_proj']) } }), ...others];
    const strange = quantize({ model: dense.with({ blocks }), backend, recipe: [tune()], calibration: arithmetic });
    await expect(strange).rejects.toMatchObject({ code: 'LINEAR_NOT_AFFINE', message: expect.stringMatching(/up_proj: is 'alien'/) });
    await expect(quantize({ model: given, backend, recipe: [tune()] })).rejects.toMatchObject({ code: 'CALIBRATION_EMPTY' });
  });
});

describe('gradients of the tuned parameters', () => {
  it('are those of the loss, by finite differences in float64, where activations are not rounded', async () => {
    const oracle = createReferenceBackend();
    const small = createToyModel({ seed: 2, hiddenSize: 8, innerSize: 12, headCount: 2, keyValueHeadCount: 1, blockCount: 2 });
    const { model } = await quantize({
      model: small,
      backend: oracle,
      recipe: [outlierColumns({ rank: 2, bits: 16 }), perChannel(3)],
      calibration: arithmetic,
    });
    const whole = await materialize(model);
    const { parameters, lossOf } = trainableOf(whole, { optionsFor: () => tune().options });
    const loss = lossOf(oracle, windowLoss({ backend: oracle, model: whole, lossOf: nextTokenLoss }));
    const batch = { tokens: await arithmetic.at(1), weights: [0.5, 0.5] };
    const { gradients } = await loss.gradients(parameters, batch, 1);
    const lossAt = (name: string, index: number, value: number): Promise<number> => {
      const moved = async (): Promise<NamedTensors> => {
        const values = (await readFloats(parameters.get(name) as Tensor)).slice();
        values[index] = value;
        return new Map(parameters).set(name, tensor(values, parameters.get(name)?.shape));
      };
      return moved().then((values) => loss.value(values, batch));
    };
    for (const name of [...parameters.keys()].filter((_, i) => i % 3 === 0)) {
      const [values, gradient] = [await readFloats(parameters.get(name) as Tensor), await readFloats(gradients.get(name) as Tensor)];
      for (const index of [0, values.length - 1]) {
        // Leaves are float32: the step is what they make of it, and a loss of 5 read as float32 may be off by 3e-7.
        const [up, down] = [Math.fround(values[index] + 3e-3), Math.fround(values[index] - 3e-3)];
        const slope = ((await lossAt(name, index, up)) - (await lossAt(name, index, down))) / (up - down);
        expect(Math.abs(slope - gradient[index]), `${name}[${index}]`).toBeLessThan(1e-4 + 2e-3 * Math.abs(slope));
      }
    }
  });
});

describe('stored values', () => {
  it('are float16, keep the sign of a scale, and leave alone what is float16 already', () => {
    const value = fc.float({ min: -1e6, max: 1e6, noNaN: true, noDefaultInfinity: true });
    fc.assert(
      fc.property(fc.array(fc.tuple(value, value), { minLength: 1 }), (pairs) => {
        const [now, before] = [Float32Array.from(pairs, ([x]) => x), Float32Array.from(pairs, ([, x]) => x)];
        const columns = storedColumns(now, 'float16');
        expect(columns.every((x) => Number.isFinite(x) && roundToFloat16(x) === x)).toBe(true);
        expect(storedColumns(columns, 'float16')).toEqual(columns);
        expect(storedColumns(now, 'float32')).toEqual(now);
        for (const dtype of ['float16', 'float32'] as const) {
          const scales = storedScales(now, before, dtype);
          expect(scales.every((x, i) => Number.isFinite(x) && (before[i] < 0 ? x < 0 : x > 0))).toBe(true);
          expect(storedScales(scales, scales, dtype)).toEqual(scales);
        }
      }),
    );
  });
});
