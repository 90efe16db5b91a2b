// LREC as a method: the contract, the start, what it keeps, what it costs, and what it says.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createReferenceBackend } from '@lowbit/backend-reference';
import { type Model, memoryStore, type Recipe, type RunEvent, readFloats, roundToFloat16 } from '@lowbit/core';
import { type QuantizeOptions, quantize } from '@lowbit/pipeline';
import { LowRankLinear, linearKinds } from '@lowbit/quant';
import { createToyModel, createToyTokens, describeMethod } from '@lowbit/testkit';
import { afterAll, describe, expect, it } from 'vitest';
import { checkpointBits } from '../src/adapters/checkpoint-bits.js';
import { emef, type LrecInput, lowRankCorrection, lrec } from '../src/index.js';
import { rounding } from './rounding.js';
import { linearsOf, logitsOn, toyRun } from './toy-run.js';

const backend = await createOnnxBackend({ threads: 1, spin: false });
afterAll(() => backend.dispose());
const base = rounding({ bits: 2, groupSize: 16 });
const quick: LrecInput = { rank: 2, epochs: 1, batchWindows: 2, learningRate: 0.01 };

describeMethod(lrec, {
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
  const log: Readonly<Record<string, unknown>> = records.find(({ klAfter }) => klAfter !== undefined) ?? {};
  return { model, log, rounds: records.filter(({ round }) => round !== undefined), warnings: warnings.map(({ code }) => code) };
}

const logitsOf = async (model: Model): Promise<number[]> => logitsOn(backend, model, await calibration.at(0));

const { model: quantized } = await run([base]);

describe('lrec', () => {
  it('begins as the quantized model, bit for bit', async () => {
    const { model, log } = await run([base, lrec({ ...quick, learningRate: 1e-30, keepBest: false })]);
    expect(linearsOf(model).every(([, linear]) => linear instanceof LowRankLinear)).toBe(true);
    expect(await logitsOf(model)).toEqual(await logitsOf(quantized));
    expect(log['klAfter']).toBe(log['klBefore']);
  });

  it('brings the model closer to the dense one, on text that it was not trained on too', async () => {
    const { log, rounds, warnings, model } = await run([base, lrec({ ...quick, rank: 4, epochs: 12, holdOut: 0 })]);
    expect(log['klAfter']).toBeLessThan(0.6 * (log['klBefore'] as number));
    expect(warnings).toEqual([]);
    expect(rounds).toHaveLength(12);
    expect(log).toMatchObject({ windows: 8, heldOutWindows: 0, steps: 48, tokens: 960, ranks: [4] });
    for (const [path, linear] of linearsOf(model)) {
      const { down, up, base: codes, factorDtype } = linear as LowRankLinear;
      expect(factorDtype).toBe('float16');
      for (const factor of [down, up])
        expect(
          (await readFloats(factor)).every((x) => roundToFloat16(x) === x),
          path,
        ).toBe(true);
      expect(linear.storageBits - codes.storageBits).toBe(16 * 4 * (linear.inFeatures + linear.outFeatures));
    }
  });

  it('trains on hidden states', async () => {
    const { log } = await run([base, lrec({ ...quick, epochs: 8, holdOut: 0, objective: 'hidden', keepBest: false })]);
    const losses = log['losses'] as number[];
    expect(losses[7]).toBeLessThan(0.95 * losses[0]);
  });

  it('learns from cached answers as from live ones', async () => {
    const options: LrecInput = { ...quick, epochs: 4, holdOut: 0 };
    const [live, cached, few] = [
      await run([base, lrec(options)]),
      await run([base, lrec({ ...options, teacher: 'cache', topK: 64 })]),
      await run([base, lrec({ ...options, teacher: 'cache', topK: 8 })]),
    ];
    expect((cached.log['klAfter'] as number) / (live.log['klAfter'] as number)).toBeCloseTo(1, 2);
    expect(few.log['klBefore']).toBeLessThan(live.log['klBefore'] as number);
    expect(few.log['klAfter']).toBeLessThan(0.95 * (few.log['klBefore'] as number));
  });

  it('never ends above its start where it keeps the best, and says so where it does not', async () => {
    const wild: LrecInput = { ...quick, epochs: 3, learningRate: 3, schedule: 'constant', clipNorm: 0, holdOut: 0 };
    const kept = await run([base, lrec(wild)]);
    expect(kept.log).toMatchObject({ keptRound: 0, klAfter: kept.log['klBefore'], adapterBits: 0, overhead: 0, ranks: [] });
    expect(kept.warnings).toEqual(['LREC_NO_GAIN']);
    expect(await logitsOf(kept.model)).toEqual(await logitsOf(quantized));
    for (const [path, linear] of linearsOf(kept.model)) expect(linear.kind, path).toBe('affine');
    const last = await run([base, lrec({ ...wild, keepBest: false })]);
    expect(last.log['klAfter']).toBeGreaterThan(last.log['klBefore'] as number);
    expect(last.warnings).toEqual(['LREC_WORSE', 'FINETUNE_DIVERGED']);
  });

  it('survives a loss that is not finite', async () => {
    const { log, warnings, model } = await run([
      base,
      lrec({ ...quick, learningRate: 1e30, clipNorm: 0, schedule: 'constant', warmup: 0 }),
    ]);
    expect(warnings).toContain('LREC_DIVERGED');
    expect(log['keptRound']).toBe(0);
    expect(await logitsOf(model)).toEqual(await logitsOf(quantized));
  });

  it('spends the asked share of the checkpoint, to within one rank of one name', async () => {
    for (const overhead of [0.05, 0.11, 0.3]) {
      const { rank: _, ...rest } = quick;
      const { model, log } = await run([base, lrec({ ...rest, overhead, maxTokens: 1, keepBest: false })]);
      const added = linearsOf(model).reduce(
        (bits, [, linear]) => bits + linear.storageBits - ((linear as Partial<LowRankLinear>).base ?? linear).storageBits,
        0,
      );
      const share = added / checkpointBits(quantized);
      expect(log['overhead']).toBeCloseTo(share, 12);
      expect(share).toBeLessThanOrEqual(overhead);
      const oneMore = (16 * 2 * (32 + 48)) / checkpointBits(quantized);
      expect(share).toBeGreaterThan(overhead - oneMore);
    }
    await expect(run([base, lrec({ ...quick, rank: undefined, overhead: 1e-5 })])).rejects.toMatchObject({ code: 'ADAPTER_OVERHEAD' });
  });

  it('keeps to overrides: ranks, scaling, storage, and what is not targeted', async () => {
    const step = lrec({
      ...quick,
      alpha: 8,
      maxTokens: 1,
      keepBest: false,
      targets: ['**', '!**.o_proj'],
      overrides: { '**.down_proj': { rank: 5 }, '**.k_proj': { adapterDtype: 'float32' } },
    });
    const { model } = await run([base, step]);
    for (const [path, linear] of linearsOf(model)) {
      if (path.endsWith('o_proj')) {
        expect(linear.kind).toBe('affine');
        continue;
      }
      const { rank, scaling, factorDtype } = linear as LowRankLinear;
      expect([rank, scaling, factorDtype], path).toEqual([
        path.endsWith('down_proj') ? 5 : 2,
        path.endsWith('down_proj') ? 8 / 5 : 4,
        path.endsWith('k_proj') ? 'float32' : 'float16',
      ]);
    }
    await expect(run([base, lrec({ ...quick, rank: 25 })])).rejects.toMatchObject({ code: 'ADAPTER_RANK' });
  });

  it('trains on adapters that are there', async () => {
    const first = await run([base, lrec({ ...quick, rank: 3, alpha: 6, epochs: 4, holdOut: 0 })]);
    const second = await run([
      base,
      lrec({ ...quick, rank: 3, alpha: 6, epochs: 4, holdOut: 0 }),
      lrec({ ...quick, epochs: 4, holdOut: 0 }),
    ]);
    expect(second.log['klBefore']).toBe(first.log['klBefore']);
    const { model } = second;
    for (const [, linear] of linearsOf(model)) expect(linear).toMatchObject({ rank: 3, scaling: 2, base: { kind: 'affine' } });
    const kl = second.rounds.at(-1)?.['kl'] as number;
    expect(kl).toBeLessThan(first.log['klAfter'] as number);
  });

  it('keeps adapters that were there where training gains nothing, and leaves out new ones', async () => {
    const wild: LrecInput = { ...quick, learningRate: 3, schedule: 'constant', clipNorm: 0, holdOut: 0 };
    const correction = lowRankCorrection({ form: 'svd', rank: 3, targets: ['**.down_proj'] });
    const before = await run([base, correction]);
    const { model, log } = await run([base, correction, lrec({ ...wild, rank: undefined, overhead: 0.1 })]);
    expect(log).toMatchObject({ keptRound: 0, adapterBits: 2 * 16 * 3 * (32 + 48), ranks: [3] });
    expect(linearsOf(model).map(([, { kind }]) => kind)).toEqual(linearsOf(before.model).map(([, { kind }]) => kind));
    expect(await logitsOf(model)).toEqual(await logitsOf(before.model));
  });

  it('corrects what is quantized, and refuses a step that targets nothing such', async () => {
    const part = rounding({ bits: 2, groupSize: 16, targets: ['**.mlp.*'] });
    const { model, log } = await run([part, lrec({ ...quick, holdOut: 0 })]);
    for (const [path, linear] of linearsOf(model)) expect(linear.kind, path).toBe(path.includes('.mlp.') ? 'low-rank' : 'dense');
    expect(log['klAfter']).toBeLessThan(log['klBefore'] as number);
    for (const recipe of [[lrec(quick)], [part, lrec({ ...quick, targets: ['**.self_attn.*'] })]])
      await expect(run(recipe)).rejects.toMatchObject({ code: 'LINEAR_NOT_QUANTIZED' });
  });

  it('says once that rank and alpha do not hold for adapters that are there, where they are written and differ', async () => {
    const start = [base, lowRankCorrection({ form: 'svd', rank: 3, alpha: 6 })];
    const written: [LrecInput, boolean][] = [
      [{ rank: 3, alpha: 6 }, false],
      [{ rank: undefined }, false],
      [{ rank: 2 }, true],
      [{ rank: undefined, alpha: 3 }, true],
      [{ rank: 1000 }, true],
      [{ rank: 2, stack: true }, false],
    ];
    for (const [options, isWarned] of written) {
      const { warnings } = await run([...start, lrec({ ...quick, maxTokens: 1, ...options })]);
      expect(
        warnings.filter((code) => code === 'LREC_ADAPTER_KEPT'),
        JSON.stringify(options),
      ).toHaveLength(isWarned ? 1 : 0);
    }
    await expect(run([...start, lrec({ ...quick, rank: 1000, stack: true })])).rejects.toMatchObject({ code: 'ADAPTER_RANK' });
  });

  it('takes what an override writes, an overhead before the rank of the step too', () => {
    const overrides = { '**.k_proj': { overhead: 0.2 }, '**.v_proj': { rank: 5 }, '**.q_proj': { alpha: 2 } };
    for (const { overrides: parsed } of [
      lrec({ rank: 4, overrides }),
      lowRankCorrection({ rank: 4, overrides }),
      emef({ rank: 4, overrides }),
    ]) {
      expect(parsed.map(({ options: { rank } }) => rank)).toEqual([undefined, 5, 4]);
      expect(parsed[0].options.overhead).toBe(0.2);
    }
    expect(() => lrec({ overrides: { '**': 3 as unknown as object } })).toThrow(/overrides '\*\*' must be an object/);
  });

  it('takes one step for fewer tokens than that', async () => {
    expect((await run([base, lrec({ ...quick, maxTokens: 1 })])).log).toMatchObject({ steps: 1, tokens: 20 });
  });

  it('goes on after an interruption, to the same bits', async () => {
    const recipe = [base, lrec({ ...quick, epochs: 3, dropout: 0.2, shuffle: true })];
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

  it('asks for data, and refuses a cache of hidden states', async () => {
    await expect(quantize({ model: dense, backend, recipe: [lrec(quick)] })).rejects.toMatchObject({ code: 'CALIBRATION_EMPTY' });
    expect(() => lrec({ objective: 'hidden', teacher: 'cache' })).toThrow(expect.objectContaining({ code: 'OPTIONS_INVALID' }));
    expect(() => lrec({ preset: 'rilq', teacher: 'cache' })).toThrow(/hidden/);
    expect(() => lrec({ legacyWeights: { kl: 0, ce: 0 } })).toThrow(/legacyWeights/);
  });

  it('has the published settings in its presets', () => {
    expect(lrec({ preset: 'paper' }).options).toMatchObject({
      rank: 32,
      alpha: 128,
      dropout: 0.05,
      learningRate: 3e-5,
      batchWindows: 7,
      epochs: 10,
      clipNorm: 0,
    });
    expect(lrec({ preset: 'paper', overhead: 0.06 }).options).toMatchObject({ rank: undefined, overhead: 0.06 });
    expect(lrec({ preset: 'rilq' }).options).toMatchObject({ objective: 'hidden', start: 'normal', learningRate: 1e-4 });
    expect(lrec().options).toMatchObject({ overhead: 0.05, lambdaCe: 0.05, schedule: 'cosine', keepBest: true });
  });
});
