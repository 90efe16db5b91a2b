// Statistics are folds: any split of the rows, merged in any order, gives the statistic of the whole.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { absmax, createRng, energy, flattenRows, gram, peakMeanMagnitude, slice, tensor } from '../src/index.js';
import { interpret } from './interpret.js';

const [rows, features] = [12, 5];
const x = tensor(createRng(1).normal(rows * features), [rows, features]);

describe.each([gram, absmax, energy])('$name', (statistic) => {
  it('of the union is the merge of the parts', async () => {
    const [whole] = await interpret(statistic.of(x));
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: rows - 2 }), fc.integer({ min: 1, max: rows - 1 }), async (a, b) => {
        fc.pre(a < b);
        const [first, second, third] = [slice(x, 0, 0, a), slice(x, 0, a, b), slice(x, 0, b, rows)].map((part) => statistic.of(part));
        const merged = await interpret(
          statistic.merge(statistic.merge(first, second), third),
          statistic.merge(third, statistic.merge(second, first)),
        );
        for (const values of merged) for (const [i, v] of values.entries()) expect(v).toBeCloseTo(whole[i], 12);
      }),
      { numRuns: 20 },
    );
  });
});

describe('gram', () => {
  it('is Σ xᵀx', async () => {
    const [[data], [g]] = [await interpret(x), await interpret(gram.of(x))];
    for (let i = 0; i < features; i++) {
      for (let j = 0; j < features; j++) {
        let total = 0;
        for (let row = 0; row < rows; row++) total += data[row * features + i] * data[row * features + j];
        expect(g[i * features + j]).toBeCloseTo(total, 12);
      }
    }
  });
});

describe('absmax', () => {
  it('is the largest magnitude of each input', async () => {
    expect([...(await interpret(absmax.of(tensor([1, -2, -3, 0.5], [2, 2]))))[0]]).toEqual([3, 2]);
  });
});

describe('energy', () => {
  it('is the diagonal of the Gram matrix', async () => {
    const [squares, g] = await interpret(energy.of(x), gram.of(x));
    for (let i = 0; i < features; i++) expect(squares[i]).toBeCloseTo(g[i * (features + 1)], 12);
  });
});

describe('peakMeanMagnitude', () => {
  it('is the largest of the batches’ mean magnitudes, whatever their sizes and order', async () => {
    const [data] = await interpret(x);
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: rows - 1 }), fc.boolean(), async (cut, isReversed) => {
        const batches = [slice(x, 0, 0, cut), slice(x, 0, cut, rows)].map((batch) => peakMeanMagnitude.of(batch));
        const [merged] = await interpret(peakMeanMagnitude.merge(batches[isReversed ? 1 : 0], batches[isReversed ? 0 : 1]));
        for (let i = 0; i < features; i++) {
          const magnitudes = Array.from({ length: rows }, (_, row) => Math.abs(data[row * features + i]));
          const meanOf = (part: number[]): number => part.reduce((total, value) => total + value, 0) / part.length;
          expect(merged[i]).toBeCloseTo(Math.max(meanOf(magnitudes.slice(0, cut)), meanOf(magnitudes.slice(cut))), 12);
        }
      }),
      { numRuns: 20 },
    );
  });
});

it.each([absmax, energy, peakMeanMagnitude])('$name restricts to a range of inputs', async (statistic) => {
  const [whole, part] = await interpret(statistic.of(x), statistic.restrict(statistic.of(x), 1, 4));
  expect([...part]).toEqual([...whole.subarray(1, 4)]);
});

it('flattenRows joins all axes but the last', () => {
  expect(flattenRows(tensor(new Float32Array(24), [2, 3, 4])).shape).toEqual([6, 4]);
  expect(flattenRows(x)).toBe(x);
});
