// What claims and figures of experiments are made of.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ascends,
  combine,
  means,
  numberOf,
  panels,
  rankCorrelation,
  type Sample,
  sampleOf,
  samplesOf,
  show,
  showSample,
  valuesOf,
} from '../src/experiments/index.js';

const rows = [
  { model: 'a', bits: 2, seed: 0, kl: 1 },
  { model: 'a', bits: 2, seed: 1, kl: 3 },
  { model: 'a', bits: 3, seed: 0, kl: 0.5 },
  { model: 'a', bits: 3, seed: 1, kl: null },
  { model: 'b', bits: 2, seed: 0, kl: 0.25 },
];
const sample = (values: readonly number[]): Sample =>
  sampleOf(
    values.map((kl, seed) => ({ seed, kl })),
    {},
    'kl',
  ) as Sample;

describe('samples', () => {
  it('are the values of a field in rows of one setting, by seed', () => {
    expect(sampleOf(rows, { model: 'a', bits: 2 }, 'kl')).toEqual({
      bySeed: new Map([
        [0, 1],
        [1, 3],
      ]),
      mean: 2,
      deviation: Math.SQRT2,
    });
    expect(sampleOf(rows, { model: 'b' }, 'kl')).toEqual({ bySeed: new Map([[0, 0.25]]), mean: 0.25, deviation: 0 });
    expect(sampleOf(rows, { model: 'c' }, 'kl')).toBeUndefined();
    expect(sampleOf(rows, { bits: 3 }, 'kl')?.mean).toBeNaN();
    expect(samplesOf(rows, [{ model: 'a', bits: 2 }, { model: 'b' }], 'kl')?.map(({ mean }) => mean)).toEqual([2, 0.25]);
    expect(samplesOf(rows, [{ model: 'b' }, { model: 'b', bits: 3 }], 'kl')).toBeUndefined();
    expect(valuesOf(rows, 'bits')).toEqual([2, 3]);
    expect([numberOf('1'), numberOf(null), numberOf(2)]).toEqual([Number.NaN, Number.NaN, 2]);
  });

  it('have the mean and deviation of their values, and combine seed by seed', () => {
    const values = fc.array(fc.double({ min: -10, max: 10, noNaN: true }), { minLength: 2, maxLength: 6 });
    fc.assert(
      fc.property(values, (first) => {
        const mean = first.reduce((a, b) => a + b) / first.length;
        const variance = first.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (first.length - 1);
        expect(sample(first).mean).toBeCloseTo(mean, 10);
        expect(sample(first).deviation).toBeCloseTo(Math.sqrt(variance), 10);
        const doubled = combine((a, b) => a + b, sample(first), sample(first));
        expect([...doubled.bySeed.values()]).toEqual(first.map((x) => 2 * x));
      }),
    );
    expect(combine((a, b) => a - b, sample([1, 2]), sample([1])).mean).toBeNaN();
  });

  it('ascend where they do in every seed', () => {
    expect(ascends([sample([1, 5]), sample([2, 6]), sample([3, 7])])).toBe(true);
    expect(ascends([sample([1, 5]), sample([2, 5])])).toBe(false);
    expect(ascends([sample([1, 5]), sample([2, Number.NaN])])).toBe(false);
    expect(ascends([sample([1]), sample([2, 6])])).toBe(false);
  });

  it('are shown with three digits, and every seed where there are several', () => {
    expect(showSample(sample([0.11111, 0.22222]))).toBe('0.167 (0.111, 0.222)');
    expect(showSample(sample([12.345]))).toBe('12.3');
    expect(show(Number.NaN)).toBe('NaN');
  });
});

describe('figures', () => {
  it('draw means and deviations along the axis that is measured', () => {
    const x = { field: 'bits', type: 'ordinal' };
    const { layer } = means('y', 'line', { x, y: { field: 'kl' }, color: { field: 'method' } }) as { layer: { encoding: object }[] };
    const color = { type: 'nominal', field: 'method' };
    expect(layer.map(({ encoding }) => encoding)).toEqual([
      { x, y: { field: 'kl', type: 'quantitative', aggregate: 'mean' }, color },
      { x, y: { field: 'kl', type: 'quantitative' }, color },
    ]);
  });

  it('have a panel for each model', () => {
    const spec = panels({ mark: 'bar' }, { row: { field: 'bits' }, independent: ['x'], height: 100 });
    expect(spec).toMatchObject({
      facet: { column: { field: 'model' }, row: { field: 'bits', type: 'nominal' } },
      spec: { width: 320, height: 100, mark: 'bar' },
      resolve: { scale: { x: 'independent' } },
    });
    expect(panels({}, {})).toMatchObject({
      facet: expect.not.objectContaining({ row: expect.anything() as unknown }) as unknown,
      resolve: { scale: {} },
    });
  });
});

describe('rank correlation', () => {
  const lists = fc.uniqueArray(fc.integer({ min: -1000, max: 1000 }), { minLength: 2, maxLength: 20 });

  it('is 1 for any ascending map of the values, −1 for a descending one', () => {
    fc.assert(
      fc.property(lists, (values) => {
        expect(
          rankCorrelation(
            values,
            values.map((value) => Math.exp(value / 500)),
          ),
        ).toBeCloseTo(1, 10);
        expect(
          rankCorrelation(
            values,
            values.map((value) => -(value ** 3)),
          ),
        ).toBeCloseTo(-1, 10);
      }),
    );
  });

  it('shares ranks among equal values', () => {
    // Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: covariance 4.5 over √(4.5 · 5).
    expect(rankCorrelation([1, 2, 2, 3], [1, 2, 3, 4])).toBeCloseTo(4.5 / Math.sqrt(4.5 * 5), 12);
    expect(rankCorrelation([1, 1], [1, 2])).toBeNaN();
    expect(rankCorrelation([1, Number.NaN, 3], [1, 2, 3])).toBeNaN();
  });
});
