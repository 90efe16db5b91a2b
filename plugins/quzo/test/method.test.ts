// The method: its contract, that it learns, what it leaves alone, and what it says.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import {
  type Backend,
  batchesOf,
  createRng,
  type FinetuneTask,
  type Model,
  memoryStore,
  type Recipe,
  type RunEvent,
  read,
  type StoreEntry,
  type Tensor,
  type TokenBatches,
  tensor,
  tensorsOf,
} from '@lowbit/core';
import { type QuantizeOptions, quantize } from '@lowbit/pipeline';
import { linearKinds } from '@lowbit/quant';
import { rtn } from '@lowbit/rtn';
import { createToyModel, describeMethod } from '@lowbit/testkit';
import { afterAll, describe, expect, it } from 'vitest';
import { type QuzoInput, quzo } from '../src/index.js';

const createBackend = (): Promise<Backend> => createOnnxBackend({ threads: 1, spin: false });
const backend = await createBackend();
afterAll(() => backend.dispose());

const int8 = rtn({ bits: 8, groupSize: 16 });
const int4 = rtn({ bits: 4, groupSize: 16 });
const short: QuzoInput = { steps: 4, judgeEvery: 2, keepBest: false, holdOut: 0 };

describeMethod(quzo, {
  quantize,
  createBackend,
  kinds: linearKinds,
  prepare: [int8],
  options: { ...short, learningRate: 3000 },
  override: { learningRate: 9000 },
});

describeMethod(quzo, {
  quantize,
  createBackend,
  kinds: linearKinds,
  prepare: [int4],
  options: { ...short, preset: 'quzo-paper', learningRate: 0.1, rank: 3 },
  override: { rank: 2 },
});

/** Text in which each token decides the next: 16 windows of 12. */
const text = Array.from({ length: 8 }, (_, batch) =>
  tensor(
    Int32Array.from({ length: 24 }, (_, i) => (7 * (Math.floor(i / 12) + 2 * batch) + 5 * (i % 12)) % 64),
    [2, 12],
  ),
);
const calibration: TokenBatches = { ...batchesOf(text), hash: 'arithmetic', description: 'arithmetic' };
const dense = createToyModel({ seed: 7, outliers: 2 });

/** Sentences that end in a label: `trained` in the training part, `judged` in the dev part. */
function labels(trained: number, judged: number): FinetuneTask {
  const part = (label: number): FinetuneTask['train'] => {
    const [count, length] = [8, 12];
    const tokens = Int32Array.from({ length: count * length }, (_, i) => (i % length === length - 1 ? label : (17 * i + 3) % 64));
    const weights = Float32Array.from(tokens, (_, i) => (i % length === length - 2 ? 1 : 0));
    return { count, length, tokens, weights };
  };
  const candidates = Int32Array.of(5, 9);
  return { description: 'labels', hash: 'labels', candidates, train: part(trained), dev: part(judged), protocol: {} };
}

interface Outcome {
  readonly model: Model;
  /** The last record but the log's lines. */
  readonly summary: Readonly<Record<string, unknown>>;
  readonly rounds: readonly Readonly<Record<string, unknown>>[];
  readonly warnings: readonly string[];
}

async function run(recipe: Recipe, more: Partial<QuantizeOptions> = {}): Promise<Outcome> {
  const records: Readonly<Record<string, unknown>>[] = [];
  const warnings: string[] = [];
  const onEvent = (event: RunEvent): void => {
    if (event.type === 'log') records.push(event.record);
    if (event.type === 'warning') warnings.push(event.code);
    more.onEvent?.(event);
  };
  const { model } = await quantize({ model: dense, backend, recipe, calibration, seed: 1, ...more, onEvent });
  const summary = records.find((record) => 'keptStep' in record) ?? {};
  return { model, summary, rounds: records.filter((record) => 'heldOutLoss' in record), warnings };
}

async function changedNames(before: Model, after: Model): Promise<string[]> {
  const now = tensorsOf(after);
  const changed: string[] = [];
  for (const [name, t] of tensorsOf(before)) {
    const found = now.get(name);
    const [was, is] = [await read(t), found && (await read(found))];
    if (was.some((x, i) => !Object.is(x, is?.[i]))) changed.push(name);
  }
  return changed;
}

const fields = (names: readonly string[]): string[] => [...new Set(names.map((name) => name.split('.').at(-1) as string))];
const { model: on8 } = await run([int8]);
const { model: on4 } = await run([int4]);

describe('quzo learns the text', () => {
  const long: QuzoInput = { steps: 60, judgeEvery: 30, holdOut: 0 };

  it.each<[string, Recipe, Model, QuzoInput, number, string[]]>([
    ['in codes of 8 bits', [int8], on8, { learningRate: 6000 }, 0.97, ['codes']],
    ['in codes of 4 bits', [int4], on4, { preset: 'qes-int4', variant: 'none', learningRate: 10, queries: 1 }, 0.95, ['codes']],
    ['in scales', [int4], on4, { preset: 'qzo-int4', learningRate: 1e-3 }, 0.97, ['scale']],
    ['in dense weights', [], dense, { preset: 'mezo', learningRate: 5e-3, batchWindows: 8 }, 0.99, ['weight']],
  ])('%s, and leaves everything else', async (_, recipe, before, options, share, changed) => {
    const { summary, model, warnings } = await run([...recipe, quzo({ ...long, ...options })]);
    expect(summary['lossAfter']).toBeLessThan(share * (summary['lossBefore'] as number));
    expect(warnings).toEqual([]);
    const names = await changedNames(before, model);
    expect(fields(names)).toEqual(changed);
    expect(names).toHaveLength(14);
    expect(summary).toMatchObject({ parameters: 14, steps: 60, skippedSteps: 0, tokens: 60 * 8 * 12 });
  });

  it('in new adapters on codes that stay', async () => {
    const { summary, model } = await run([int4, quzo({ ...long, preset: 'zo-lora-int4', learningRate: 0.1, queries: 1 })]);
    expect(summary['lossAfter']).toBeLessThan(0.97 * (summary['lossBefore'] as number));
    const base = tensorsOf(model);
    for (const [name, t] of tensorsOf(on4)) {
      const found = base.get(name) ?? (base.get(name.replace(/(codes|scale|zeroPoint)$/, 'base.$1')) as Tensor);
      expect(await read(found), name).toEqual(await read(t));
    }
    // A second step trains the adapters that are there.
    const first = quzo({ ...short, preset: 'zo-lora-int4', learningRate: 0.1 });
    const [once, twice] = [await run([int4, first]), await run([int4, first, first])];
    expect([...tensorsOf(twice.model).keys()]).toEqual([...tensorsOf(once.model).keys()]);
    expect(fields(await changedNames(once.model, twice.model))).toEqual(['down', 'up']);
  });
});

describe('quzo', () => {
  it('changes nothing at a learning rate of 0, to the byte', async () => {
    for (const [recipe, before, options] of [
      [[int8], on8, {}],
      [[int8], on8, { rounding: 'sr' as const }],
      [[int4], on4, { preset: 'qzo-int4' as const }],
    ] as const) {
      const { model, summary } = await run([...recipe, quzo({ ...short, ...options, learningRate: 0 })]);
      expect(summary['keptStep']).toBe(4);
      expect(await changedNames(before, model)).toEqual([]);
    }
  });

  it('trains what it is told to, by Linear too', async () => {
    const step = quzo({
      ...short,
      learningRate: 3000,
      targets: ['**.up_proj', '**.q_proj'],
      overrides: { '**.q_proj': { parameters: 'scales', epsilon: 1e-3, learningRate: 1e-3 } },
    });
    const changed = await changedNames(on8, (await run([int8, step])).model);
    expect(fields(changed.filter((name) => name.includes('up_proj')))).toEqual(['codes']);
    expect(fields(changed.filter((name) => name.includes('q_proj')))).toEqual(['scale']);
    expect(changed).toHaveLength(4);
  });

  it('leaves the largest magnitudes of each tensor as they are, where it is sparse', async () => {
    const { model } = await run([quzo({ ...short, preset: 'mezo', learningRate: 1e-3, sparsity: 0.75 })]);
    const now = tensorsOf(model);
    for (const name of await changedNames(dense, model)) {
      const [was, is] = [await read(tensorsOf(dense).get(name) as Tensor), await read(now.get(name) as Tensor)];
      const moved = [...was].filter((x, i) => x !== is[i]).map(Math.abs);
      const stayed = [...was].filter((x, i) => x === is[i]).map(Math.abs);
      expect(moved.length / was.length).toBeCloseTo(0.25, 1);
      expect(Math.max(...moved)).toBeLessThanOrEqual(Math.min(...stayed) * 1.001 + Math.max(...stayed) / 4095);
    }
  });

  it('keeps the best state, the start among them, and says when there was none', async () => {
    // Of two labels one is right in what is trained on, and the other in what is judged on: each step does harm.
    const task = labels(5, 9);
    const options: QuzoInput = { preset: 'qzo-int4', steps: 6, judgeEvery: 2, learningRate: 1e-5, estimator: 'rge1' };
    const kept = await run([int4, quzo(options)], { task });
    expect(kept.summary).toMatchObject({ steps: 6, keptStep: 0, lossAfter: kept.summary['lossBefore'] });
    expect(kept.warnings).toEqual(['QUZO_NO_GAIN']);
    expect(await changedNames(on4, kept.model)).toEqual([]);
    const last = await run([int4, quzo({ ...options, keepBest: false })], { task });
    expect(last.summary['keptStep']).toBe(6);
    expect(last.warnings).toEqual(['QUZO_WORSE']);
    expect((await run([int4, quzo({ ...options, patience: 1 })], { task })).summary).toMatchObject({ steps: 2, keptStep: 0 });
    const right = await run([int4, quzo(options)], { task: labels(5, 5) });
    expect(right.summary['lossAfter']).toBeLessThan(right.summary['lossBefore'] as number);
    expect(right.warnings).toEqual([]);
  });

  it('takes the steps again that lead to the best state, to the same bits', async () => {
    // At a rate that is too high to settle any of four judgements may be the best, and which one is a matter of the last digit: take a seed of the first.
    const options: QuzoInput = { preset: 'qzo-int4', steps: 40, judgeEvery: 10, learningRate: 0.03, holdOut: 0, schedule: 'constant' };
    const runs = async (seed = 0): Promise<{ seed: number; whole: Outcome }> => {
      const whole = await run([int4, quzo(options)], { seed });
      return whole.summary['keptStep'] === 10 || seed === 30 ? { seed, whole } : runs(seed + 1);
    };
    const { seed, whole } = await runs();
    expect(whole.summary).toMatchObject({ steps: 40, keptStep: 10 });
    const short = await run([int4, quzo({ ...options, steps: 10 })], { seed });
    expect(whole.summary['lossAfter']).toBe(short.summary['lossAfter']);
    expect(await changedNames(short.model, whole.model)).toEqual([]);
    expect((await run([int4, quzo({ ...options, patience: 2 })], { seed })).summary).toMatchObject({ steps: 30, keptStep: 10 });
  });

  it.each<[string, QuzoInput]>([
    ['kept', {}],
    ['rebuilt', { carry: 'replay', carryWindow: 5 }],
  ])('goes on after an interruption at any step, to the same bits, and takes no step twice (carry %s)', async (_, carry) => {
    const recipe = [int8, quzo({ steps: 12, judgeEvery: 3, learningRate: 1000, holdOut: 0, ...carry })];
    const whole = await run(recipe, { store: memoryStore(), kinds: linearKinds });
    // Before the first step, between judgements, between a step and its judgement, and before the last one.
    for (const last of [0, 4, 6, 12]) {
      const store = memoryStore();
      const controller = new AbortController();
      const onEvent = (event: RunEvent): void => {
        const isFirst = event.type === 'step-start' && event.method === 'quzo' && last === 0;
        if (isFirst || (event.type === 'progress' && event.stage === 'finetune' && event.done === last)) controller.abort();
      };
      const stopped = run(recipe, { store, kinds: linearKinds, onEvent, signal: controller.signal });
      await expect(stopped).rejects.toMatchObject({ code: 'ABORTED' });
      const taken: number[] = [];
      const resumed = await run(recipe, {
        store,
        kinds: linearKinds,
        onEvent: (event) => {
          if (event.type === 'progress' && event.stage === 'finetune') taken.push(event.done);
        },
      });
      expect(taken).toEqual(Array.from({ length: 12 - last }, (_, i) => last + i + 1));
      expect(resumed.rounds.map(({ step }) => step)).toEqual([3, 6, 9, 12].filter((step) => step >= last));
      expect(await changedNames(whole.model, resumed.model)).toEqual([]);
      for (const field of ['lossBefore', 'lossAfter', 'keptStep', 'steps']) expect(resumed.summary[field]).toBe(whole.summary[field]);
    }
  });

  it('leaves steps out whose losses are not finite, and ends after many of them', async () => {
    const step = quzo({ preset: 'mezo', steps: 100, epsilon: 1e-3, learningRate: 1e30, schedule: 'constant', holdOut: 0 });
    const { summary, warnings, model } = await run([step]);
    expect(summary).toMatchObject({ skippedSteps: 16, keptStep: 0 });
    expect(summary['steps']).toBeLessThan(100);
    expect(warnings).toEqual(['QUZO_NOT_FINITE', 'QUZO_NO_GAIN']);
    expect(await changedNames(dense, model)).toEqual([]);
  });

  it('warns where losses differ by no more than float32 can tell, and of roundings that hardly overlap', async () => {
    const tiny = await run([quzo({ ...short, preset: 'mezo', epsilon: 1e-9, learningRate: 0 })]);
    expect(tiny.warnings).toContain('QUZO_RESOLUTION');
    expect((await run([int4, quzo({ ...short, estimator: 'rge2', epsilon: 0.1, learningRate: 0 })])).warnings).toContain('QUZO_ROUNDING');
  });

  it('says in its log how it goes', async () => {
    const { rounds, summary } = await run([int8, quzo({ ...short, queries: 2, learningRate: 100 })]);
    expect(rounds.map(({ step }) => step)).toEqual([2, 4]);
    for (const round of rounds) {
      for (const field of [
        'loss',
        'muMean',
        'muDeviation',
        'muLargest',
        'noisyShare',
        'changedPerStep',
        'learningRate',
        'tokensPerSecond',
      ]) {
        expect(round[field], field).toBeTypeOf('number');
      }
    }
    expect(summary).toMatchObject({ forwardPasses: 4 * 2 * 2, elements: 15360 });
  });

  it('cuts derivatives to ± its clip', async () => {
    const { rounds } = await run([int8, quzo({ ...short, clip: 1e-4, learningRate: 0 })]);
    for (const { muLargest } of rounds) expect(muLargest).toBe(1e-4);
  });
});

describe('quzo refuses', () => {
  const wrong = (recipe: Recipe, model = dense): Promise<unknown> => quantize({ model, backend, recipe, calibration });

  it('options that it does not have', () => {
    for (const options of [{ epsilon: 0 }, { epsilon: 17 }, { queries: 257 }, { steps: 2 ** 21 }, { perturbBits: 1 }, { sparsity: 1 }]) {
      expect(() => quzo(options)).toThrow(expect.objectContaining({ code: 'OPTIONS_INVALID' }));
    }
  });

  it('Linears without what it is to train', async () => {
    await expect(wrong([quzo()])).rejects.toMatchObject({ code: 'LINEAR_NOT_AFFINE' });
    await expect(wrong([quzo({ parameters: 'scales' })])).rejects.toMatchObject({ code: 'LINEAR_NOT_AFFINE' });
    await expect(wrong([int8, quzo({ preset: 'mezo' })])).rejects.toMatchObject({ code: 'LINEAR_NOT_DENSE' });
    await expect(wrong([int8, quzo({ parameters: 'adapters', rank: 33 })])).rejects.toMatchObject({ code: 'ADAPTER_RANK' });
    const adapted = await run([int8, quzo({ ...short, preset: 'zo-lora-int4' })]);
    await expect(wrong([quzo({ parameters: 'weights' })], adapted.model)).rejects.toMatchObject({
      code: 'QUZO_NOTHING',
      message: expect.stringMatching(/change parameters, targets, or the order/),
    });
  });

  it('to go without data', async () => {
    await expect(quantize({ model: on8, backend, recipe: [quzo()] })).rejects.toMatchObject({ code: 'CALIBRATION_EMPTY' });
  });

  it('a saved state of another run', async () => {
    const { definition } = quzo;
    let saved: StoreEntry | undefined;
    const contextOf = (seed: number, more: QuzoInput) => {
      const { options } = quzo({ ...short, ...more });
      const nothing = (): void => {};
      return {
        backend,
        options,
        calibration,
        reference: dense,
        referenceBlock: async (index: number) => dense.blocks[index],
        rng: createRng(seed),
        signal: undefined,
        saved,
        optionsFor: () => options,
        progress: nothing,
        log: nothing,
        warn: nothing,
        save: async (entry: StoreEntry) => {
          saved = entry;
        },
      };
    };
    await definition.finetune?.(on8, contextOf(1, {}));
    expect(saved).toBeDefined();
    await expect(definition.finetune?.(on8, contextOf(2, {}))).rejects.toMatchObject({ code: 'QUZO_SAVED' });
    await expect(definition.finetune?.(on8, contextOf(1, { clip: 1 }))).rejects.toMatchObject({ code: 'QUZO_SAVED' });
  });
});
