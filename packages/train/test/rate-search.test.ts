// A search over learning rates: the best is kept, and an interrupted search goes on to the same bits.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { memoryStore, readFloats, type StoreEntry, square, sub, sum, type Tensor, tensor } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import {
  constantRate,
  type NamedTensors,
  type RateSearch,
  type Resumption,
  searchRates,
  sgd,
  type TrainResult,
  train,
} from '../src/index.js';

const backend = createReferenceBackend();
const target = tensor([3, -2]);
const lossOf = (values: NamedTensors): Tensor => sum(square(sub(values.get('x') as Tensor, target)));
const batches = { length: 1, at: () => 0 };

function trainAt(rate: number, resumption: Resumption): Promise<TrainResult> {
  const parameters = new Map([['x', tensor([0, 0])]]);
  const shared = { backend, parameters, optimizer: sgd(), lossOf, batches, epochs: 4, validation: { batches } };
  return train<number>({ ...shared, learningRate: constantRate(rate), ...resumption });
}

const search = (rates: readonly number[], more: Partial<RateSearch> = {}): RateSearch => ({
  rates,
  train: trainAt,
  lossOf: ({ validation }) => validation?.after as number,
  saved: undefined,
  save: async () => undefined,
  progress: () => undefined,
  ...more,
});

const xOf = async ({ parameters }: TrainResult): Promise<number[]> => [...(await readFloats(parameters.get('x') as Tensor))];

describe('searchRates', () => {
  it('keeps the rate of least loss, counts progress over all, and names those that diverged', async () => {
    const shares: number[] = [];
    const { best, diverged } = await searchRates(search([1e-3, 0.4, 1e30, 0.1], { progress: (done, total) => shares.push(done / total) }));
    expect(best.rate).toBe(0.4);
    expect(best.loss).toBe(best.result.validation?.after);
    expect(diverged).toEqual([1e30]);
    expect(shares.at(-1)).toBe(1);
    expect([...shares].sort((a, b) => a - b)).toEqual(shares);
    expect(await xOf(best.result)).toEqual(await xOf(await trainAt(0.4, { saved: undefined })));
  });

  it('asks for no loss where there is one rate', async () => {
    const { best } = await searchRates(search([0.1], { lossOf: () => Promise.reject(new Error('asked')) }));
    expect(best.rate).toBe(0.1);
  });

  it('takes the first of equals', async () => {
    expect((await searchRates(search([0.3, 0.1, 0.2], { lossOf: () => 1 }))).best.rate).toBe(0.3);
  });

  it('goes on where it was, within a rate and between rates', async () => {
    const rates = [0.05, 0.4, 0.2];
    const whole = await searchRates(search(rates));
    const entries: StoreEntry[] = [];
    await searchRates(search(rates, { save: async (entry) => void entries.push(entry) }));
    // Three epochs of each rate but the last, and the end of two.
    expect(entries).toHaveLength(3 * 3 + 2);
    for (const entry of entries) {
      const store = memoryStore();
      await store.put('search', entry);
      const { best } = await searchRates(search(rates, { saved: await store.get('search') }));
      expect(best.rate).toBe(whole.best.rate);
      expect(best.result).toMatchObject({ epoch: whole.best.result.epoch, losses: whole.best.result.losses });
      expect(await xOf(best.result)).toEqual(await xOf(whole.best.result));
    }
  });
});
