// Windows of text: batches of one shape, rounds, and a loss that adds up over parts of a batch.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { batchesOf, createRng, read, readFloats, type Tensor, type TokenBatches, tensor } from '@lowbit/core';
import { createToyModel } from '@lowbit/testkit';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nextTokenLoss, planRounds, readWindows, trainingBatches, type WindowBatch, windowBatches, windowLoss } from '../src/index.js';

describe('planRounds', () => {
  it('has a round for each pass and about eight at least, and leaves out less than a round', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 300 }),
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 0, max: 4000 }),
        (batches, epochs, most) => {
          const { rounds, stepsPerRound } = planRounds(batches, epochs, most);
          const asked = Math.max(1, Math.min(epochs * batches, most));
          expect(rounds * stepsPerRound).toBeLessThanOrEqual(asked);
          expect(rounds * stepsPerRound).toBeGreaterThan(asked - stepsPerRound);
          expect(stepsPerRound).toBeLessThanOrEqual(batches);
          expect(rounds).toBeGreaterThanOrEqual(Math.min(asked, 5));
        },
      ),
    );
  });
});

describe('readWindows', () => {
  const batches = (...lengths: number[]): TokenBatches => {
    const made = lengths.map((length) => tensor(new Int32Array(2 * length).fill(length), [2, length]));
    return { ...batchesOf(made), hash: '', description: 'made' };
  };

  it('reads windows of one length, and refuses others', async () => {
    expect(await readWindows(batches(4, 4))).toEqual({ tokens: new Int32Array(16).fill(4), count: 4, length: 4 });
    const message = expect.stringMatching(/batch 1 has windows of 6 tokens.*4.*one length/);
    await expect(readWindows(batches(4, 6))).rejects.toMatchObject({ code: 'CALIBRATION_WINDOWS', message });
  });
});

describe('trainingBatches', () => {
  it('trains on every window that is not held out once a pass, in batches of one shape that weigh windows alike', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 2, max: 30 }),
        fc.integer({ min: 1, max: 9 }),
        fc.constantFrom(0, 0.1, 0.5),
        fc.boolean(),
        async (count, batchWindows, holdOut, shuffle) => {
          const windows = { tokens: Int32Array.from({ length: 2 * count }, (_, i) => i >> 1), count, length: 2 };
          const { batches, heldOut, judged } = trainingBatches(windows, { holdOut, batchWindows, shuffle }, createRng(1));
          expect(holdOut === 0).toBe(heldOut === 0);
          const seen: number[] = [];
          let total = 0;
          for (let i = 0; i < batches.length; i++) {
            const { tokens, weights } = await batches.at(i);
            expect(tokens.shape).toEqual([batches.size, 2]);
            const ids = await read(tokens);
            for (const [row, weight] of weights.entries()) if (weight > 0) seen.push(ids[2 * row]);
            total += weights.reduce((a, b) => a + b, 0) / batches.length;
          }
          expect(new Set(seen).size).toBe(count - heldOut);
          expect(seen).toHaveLength(count - heldOut);
          expect(total).toBeCloseTo(1, 12);
          expect(judged.length).toBeGreaterThan(0);
        },
      ),
    );
  });
});

describe('windowLoss', () => {
  it('adds up over the parts of a batch, and so do its gradients', async () => {
    const backend = createReferenceBackend();
    const model = createToyModel({ seed: 3, blockCount: 1 });
    const ids = createRng(4).integers(5 * 8, 64);
    const batch = await windowBatches({ tokens: ids, count: 5, length: 8 }, [0, 1, 2, 3, 4], 5).at(0);
    const { norm } = model;
    const parameters = new Map([['norm.weight', norm.weight as Tensor]]);
    const [whole, parts] = [undefined, 2].map((windowsAtOnce) => windowLoss({ backend, model, lossOf: nextTokenLoss, windowsAtOnce }));
    const [a, b] = [await whole.gradients(parameters, batch, 1), await parts.gradients(parameters, batch, 1)];
    expect(b.loss).toBeCloseTo(a.loss, 5);
    expect(await parts.value(parameters, batch)).toBeCloseTo(a.loss, 5);
    const [left, right] = [
      await readFloats(a.gradients.get('norm.weight') as Tensor),
      await readFloats(b.gradients.get('norm.weight') as Tensor),
    ];
    for (const [i, x] of left.entries()) expect(right[i]).toBeCloseTo(x, 6);
  });

  it.each([8, 32, 128])('computes no part of a batch of %i that only fills it up, and gives the same to the bit', async (size) => {
    const backend = createReferenceBackend();
    const model = createToyModel({ seed: 3, blockCount: 1 });
    const windows = { tokens: createRng(4).integers(6 * 8, 64), count: 6, length: 8 };
    const parameters = new Map([['norm.weight', model.norm.weight as Tensor]]);
    let parts = 0;
    const lossOf = (part: WindowBatch): ReturnType<typeof nextTokenLoss> => {
      parts++;
      return nextTokenLoss(part);
    };
    const staged = windowLoss({ backend, model, lossOf, windowsAtOnce: 2 });
    const [exact, filled] = await Promise.all([6, size].map((some) => windowBatches(windows, [0, 1, 2, 3, 4, 5], some).at(0)));
    const outcomeOf = async (batch: WindowBatch): Promise<readonly [number, number, Float32Array, number]> => {
      parts = 0;
      const value = await staged.value(parameters, batch);
      const { loss, gradients } = await staged.gradients(parameters, batch, 1);
      return [value, loss, await readFloats(gradients.get('norm.weight') as Tensor), parts];
    };
    expect(await outcomeOf(filled)).toEqual(await outcomeOf(exact));
    expect(parts).toBe(2 * 3);
  });
});
