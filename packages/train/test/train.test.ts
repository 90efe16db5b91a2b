// The loop: it learns, keeps the best, resumes to the same bits, shuffles by address, and survives divergence.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createReferenceBackend } from '@lowbit/backend-reference';
import {
  createRng,
  lazyTensor,
  linear,
  mean,
  memoryStore,
  mul,
  readFloats,
  roundToFloat16,
  type StoreEntry,
  square,
  sub,
  type Tensor,
  tensor,
} from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import {
  adam,
  constantRate,
  cosineRate,
  type EpochReport,
  type Indexed,
  meanLoss,
  type NamedTensors,
  type TrainOptions,
  type TrainResult,
  train,
} from '../src/index.js';

interface Batch {
  readonly x: Tensor;
  readonly y: Tensor;
}

const [OUT, IN, ROWS] = [3, 4, 5];
const rng = createRng(5);
const truth = tensor(rng.at('truth').normal(OUT * IN), [OUT, IN]);
const backend = createReferenceBackend();

/** Rows of y = x Wᵀ + noise. */
async function batch(index: number, noise = 0.1): Promise<Batch> {
  const x = tensor(rng.at('x', index).normal(ROWS * IN), [ROWS, IN]);
  const [y] = await backend.evaluate([linear(x, truth)]);
  const error = rng.at('noise', index).normal(ROWS * OUT);
  return {
    x,
    y: tensor(
      (await readFloats(y)).map((value, i) => value + noise * error[i]),
      [ROWS, OUT],
    ),
  };
}

const listOf = async (indices: readonly number[]): Promise<Indexed<Batch>> => {
  const made: Batch[] = [];
  for (const index of indices) made.push(await batch(index));
  return { length: made.length, at: (index) => made[index] };
};
const batches = await listOf([0, 1, 2]);
const heldOut = await listOf([10, 11]);
const none: Indexed<Batch> = { length: 0, at: () => Promise.reject(new Error('none')) };
const lossOf = (parameters: NamedTensors, { x, y }: Batch): Tensor => mean(square(sub(linear(x, parameters.get('weight') as Tensor), y)));
const start = (): NamedTensors => new Map([['weight', tensor(new Float32Array(OUT * IN), [OUT, IN])]]);
const valuesOf = async (result: TrainResult): Promise<number[]> => [...(await readFloats(result.parameters.get('weight') as Tensor))];

const base = (): TrainOptions<Batch> => ({
  backend,
  parameters: start(),
  optimizer: adam(),
  lossOf,
  batches,
  epochs: 6,
  learningRate: constantRate(0.1),
});

describe('train', () => {
  it('lowers the loss, reports every epoch, and counts steps', async () => {
    const reports: EpochReport[] = [];
    const steps: number[] = [];
    const result = await train({
      ...base(),
      validation: { batches: heldOut },
      onEpoch: (report) => reports.push(report),
      progress: (done, total) => steps.push(done / total),
    });
    expect(result.epoch).toBe(6);
    expect(result.diverged).toBe(false);
    expect(result.losses[5]).toBeLessThan(0.3 * result.losses[0]);
    expect(reports.map(({ epoch, loss }) => [epoch, loss])).toEqual(result.losses.map((loss, i) => [i + 1, loss]));
    expect(reports[5].validation).toBe(result.validation?.after);
    expect(result.validation?.after).toBeLessThan(result.validation?.before as number);
    expect(result.validation?.after).toBe(await meanLoss(backend, result.parameters, lossOf, heldOut));
    expect(steps).toHaveLength(18);
    expect(steps[17]).toBe(1);
  });

  it('compiles one program for all steps, and gives no memory back that others hold', async () => {
    const engine = await createOnnxBackend({ threads: 1, spin: false });
    const parameters = start();
    const saved: StoreEntry[] = [];
    const learningRate = cosineRate({ peak: 0.1, warmupSteps: 3 });
    const validation = { batches: heldOut };
    const save = async (entry: StoreEntry): Promise<void> => void saved.push(entry);
    const result = await train({ ...base(), backend: engine, parameters, learningRate, validation, save });
    expect(engine.statistics.compilations).toBe(2);
    expect([...(await readFloats(parameters.get('weight') as Tensor))]).toEqual(new Array(OUT * IN).fill(0));
    const reference = await train({ ...base(), learningRate, validation });
    const expected = await valuesOf(reference);
    for (const [i, x] of (await valuesOf(result)).entries()) expect(x).toBeCloseTo(expected[i], 4);
    const first = await train({ ...base(), learningRate: (step) => learningRate(step, 18), epochs: 1 });
    const stored = await readFloats(saved[0].tensors['parameters.weight']);
    for (const [i, x] of (await valuesOf(first)).entries()) expect(stored[i]).toBeCloseTo(x, 4);
    await engine.dispose();
  });

  it('with no epochs, or a rate of 0, gives the start', async () => {
    for (const change of [{ epochs: 0 }, { learningRate: constantRate(0) }]) {
      for (const validation of [undefined, { batches: heldOut }]) {
        const result = await train({ ...base(), ...change, validation });
        expect(await valuesOf(result)).toEqual(new Array(OUT * IN).fill(0));
        if (validation) expect(result.epoch).toBe(0);
      }
    }
  });

  it('keeps the best judged epoch, the start among them, or the last if it is told to', async () => {
    const away = { learningRate: constantRate(-0.05), epochs: 4 };
    const kept = await train({ ...base(), ...away, validation: { batches: heldOut } });
    expect(kept.epoch).toBe(0);
    expect(await valuesOf(kept)).toEqual(new Array(OUT * IN).fill(0));
    expect(kept.validation?.after).toBe(kept.validation?.before);
    const last = await train({ ...base(), ...away, validation: { batches: heldOut, keep: 'last' } });
    expect(last.epoch).toBe(4);
    expect(last.validation?.after).toBeGreaterThan(last.validation?.before as number);

    // Down for two epochs, then away: the turning point is what is kept.
    const learningRate = (step: number): number => (step <= 6 ? 0.1 : -0.2);
    const turned = await train({ ...base(), learningRate, validation: { batches: heldOut } });
    const two = await train({ ...base(), learningRate, epochs: 2 });
    expect(turned.epoch).toBe(2);
    expect(await valuesOf(turned)).toEqual(await valuesOf(two));
  });

  it('judges every so many epochs, and the last', async () => {
    const judged: number[] = [];
    const onEpoch = ({ epoch, validation }: EpochReport): void => {
      if (validation !== undefined) judged.push(epoch);
    };
    await train({ ...base(), epochs: 5, validation: { batches: heldOut, every: 2 }, onEpoch });
    expect(judged).toEqual([2, 4, 5]);
  });

  it('ends after as many judgements without gain as it has patience for, and resumes into that', async () => {
    // Down for two epochs, then away.
    const learningRate = (step: number): number => (step <= 6 ? 0.1 : -0.05);
    const options = { ...base(), epochs: 9, learningRate };
    const whole = await train({ ...options, validation: { batches: heldOut } });
    expect([whole.epoch, whole.losses.length]).toEqual([2, 9]);
    for (const [patience, every, ended] of [
      [1, 1, 3],
      [3, 1, 5],
      [20, 1, 9],
      [2, 2, 6],
    ]) {
      const validation = { batches: heldOut, patience, every };
      const entries: StoreEntry[] = [];
      const save = async (entry: StoreEntry): Promise<void> => void entries.push(entry);
      const result = await train({ ...options, validation, save });
      expect(result.losses).toEqual(whole.losses.slice(0, ended));
      expect(await valuesOf(result)).toEqual(await valuesOf(whole));
      const resumed = await train({ ...options, validation, saved: entries.at(-1) });
      expect(resumed.losses).toEqual(result.losses);
    }
  });

  it('judges and returns what will be stored, and trains on what was not rounded', async () => {
    const storedAs = async (parameters: NamedTensors): Promise<NamedTensors> => {
      const weight = parameters.get('weight') as Tensor;
      return new Map([['weight', tensor((await readFloats(weight)).map(roundToFloat16), weight.shape)]]);
    };
    const rounded = await train({ ...base(), storedAs, validation: { batches: heldOut } });
    const exact = await train(base());
    const values = await valuesOf(rounded);
    expect(values).toEqual((await valuesOf(exact)).map(roundToFloat16));
    expect(rounded.validation?.after).toBe(await meanLoss(backend, rounded.parameters, lossOf, heldOut));
  });

  it('stores another form where validation has a loss for it', async () => {
    // Trained as half of what is stored.
    const name = 'weight';
    const doubled = (half: Tensor): Tensor => mul(half, 2);
    const storedAs = async (parameters: NamedTensors): Promise<NamedTensors> =>
      new Map([
        [
          'stored',
          tensor(
            (await readFloats(parameters.get(name) as Tensor)).map((x) => 2 * x),
            [OUT, IN],
          ),
        ],
      ]);
    const result = await train({
      ...base(),
      lossOf: (parameters, one) => lossOf(new Map([[name, doubled(parameters.get(name) as Tensor)]]), one),
      storedAs,
      validation: { batches: heldOut, lossOf: (stored, one) => lossOf(new Map([[name, stored.get('stored') as Tensor]]), one) },
    });
    expect([...result.parameters.keys()]).toEqual(['stored']);
    expect(result.validation?.after).toBeLessThan(result.validation?.before as number);
  });

  it('draws an order for each pass, by address', async () => {
    const seen: number[] = [];
    const watched = {
      length: batches.length,
      at: (index: number) => {
        seen.push(index);
        return batches.at(index);
      },
    };
    const shuffle = createRng(2);
    await train({ ...base(), batches: watched, epochs: 4, shuffle });
    const passes = [0, 1, 2, 3].map((pass) => seen.slice(3 * pass, 3 * pass + 3));
    expect(passes).toEqual([0, 1, 2, 3].map((pass) => [...shuffle.at('pass', pass).permutation(3)]));
    const inPasses = [...seen];
    seen.length = 0;
    // Epochs of other lengths see the batches in the same order.
    await train({ ...base(), batches: watched, epochs: 6, stepsPerEpoch: 2, shuffle });
    expect(seen).toEqual(inPasses);
    seen.length = 0;
    await train({ ...base(), batches: watched, epochs: 1 });
    expect(seen).toEqual([0, 1, 2]);
  });

  it.each(['best', 'last'] as const)('resumes to the same bits (keep: %s)', async (keep) => {
    const options = { ...base(), shuffle: createRng(8), validation: { batches: heldOut, keep } };
    const whole = await train(options);
    const store = memoryStore();
    const cancel = new AbortController();
    const onEpoch = ({ epoch }: EpochReport): void => {
      if (epoch === 4) cancel.abort();
    };
    const save = (entry: StoreEntry): Promise<void> =>
      store.put('run', { ...entry, metadata: JSON.parse(JSON.stringify(entry.metadata)) as StoreEntry['metadata'] });
    await expect(train({ ...options, save, onEpoch, signal: cancel.signal })).rejects.toMatchObject({ code: 'ABORTED' });
    const reports: number[] = [];
    const resumed = await train({ ...options, saved: await store.get('run'), onEpoch: ({ epoch }) => void reports.push(epoch) });
    expect(reports).toEqual([5, 6]);
    expect(await valuesOf(resumed)).toEqual(await valuesOf(whole));
    expect({ ...resumed, parameters: 0 }).toEqual({ ...whole, parameters: 0 });
  });

  it('refuses the state of another training', async () => {
    const saved = { metadata: { epoch: 1, losses: [1], kept: { epoch: 1 } }, tensors: {} };
    await expect(train({ ...base(), saved })).rejects.toMatchObject({
      code: 'TRAIN_SAVED',
      message: expect.stringContaining('parameters.weight'),
    });
  });

  it('stops at a loss that is not finite and keeps the best so far', async () => {
    const learningRate = (step: number): number => (step <= 6 ? 0.1 : 1e30);
    for (const validation of [undefined, { batches: heldOut }]) {
      const result = await train({ ...base(), learningRate, validation });
      const two = await train({ ...base(), learningRate, epochs: 2 });
      expect(result.diverged).toBe(true);
      expect(result.losses).toHaveLength(2);
      expect(result.epoch).toBe(2);
      expect(await valuesOf(result)).toEqual(await valuesOf(two));
    }
  });

  it('sees an update that diverged in the last step', async () => {
    const learningRate = (step: number): number => (step < 18 ? 0.1 : Number.MAX_VALUE);
    const result = await train({ ...base(), learningRate });
    expect([result.diverged, result.epoch]).toEqual([true, 5]);
  });

  it('keeps any finite epoch over a start of NaN', async () => {
    const parameters: NamedTensors = new Map([['weight', tensor(new Float32Array(OUT * IN), [OUT, IN])]]);
    let judged = 0;
    const judge = (values: NamedTensors, one: Batch): Tensor =>
      judged++ < heldOut.length ? mean(tensor([Number.NaN])) : lossOf(values, one);
    const result = await train({ ...base(), parameters, validation: { batches: heldOut, lossOf: judge } });
    expect(result.epoch).toBeGreaterThan(0);
  });

  it('reads lazy parameters once', async () => {
    let loads = 0;
    const load = (): Float32Array => {
      loads++;
      return new Float32Array(OUT * IN);
    };
    await train({ ...base(), parameters: new Map([['weight', lazyTensor([OUT, IN], 'float32', load)]]) });
    expect(loads).toBe(1);
  });

  it.each([
    [{ parameters: new Map() }, /no parameters/],
    [{ batches: none }, /no batches/],
    [{ validation: { batches: none } }, /validate on/],
    [{ epochs: 1.5 }, /epochs must be a natural number, got 1.5/],
    [{ stepsPerEpoch: 0 }, /stepsPerEpoch/],
    [{ validation: { batches: heldOut, patience: 0 } }, /patience must be a natural number, got 0/],
    [{ validation: { batches: heldOut, patience: 2, keep: 'last' } }, /patience waits for a better epoch/],
  ])('refuses what cannot be trained: %o', async (change, message) => {
    await expect(train({ ...base(), ...change } as TrainOptions<Batch>)).rejects.toMatchObject({
      code: 'TRAIN_OPTIONS',
      message: expect.stringMatching(message),
    });
  });
});
