// The mean of a sample with its standard error, against the definition.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { meanOf } from '../src/index.js';

describe('meanOf', () => {
  it('has the error of a sample, with n − 1', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: -1e3, max: 1e3, noNaN: true }), { minLength: 2, maxLength: 30 }), (values) => {
        // From all pairs: Σ (a − b)² over ordered pairs is 2 n times the sum of squares about the mean.
        const pairs = values.flatMap((a) => values.map((b) => (a - b) ** 2)).reduce((sum, square) => sum + square, 0);
        const { value, stderr } = meanOf(values);
        expect(value * values.length).toBeCloseTo(
          values.reduce((sum, one) => sum + one, 0),
          6,
        );
        expect(stderr ** 2 * values.length).toBeCloseTo(pairs / (2 * values.length * (values.length - 1)), 4);
      }),
    );
  });

  it('knows no error of a single value', () => expect(meanOf([3])).toEqual({ value: 3, stderr: Number.NaN }));
});
