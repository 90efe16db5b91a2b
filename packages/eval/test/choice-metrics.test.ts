// Accuracies, F1, Matthews' correlation and perplexity from log-likelihoods, against their definitions.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { measure, type Scored } from '../src/index.js';

const scored = (logLikelihoods: readonly number[], gold: number, endings: readonly string[] = logLikelihoods.map(() => 'x')): Scored => ({
  ...{ endings, gold, logLikelihoods },
  isGreedy: logLikelihoods.map(() => false),
});

/** Two choices, of which `prediction` is the likelier. */
const binary = (gold: number, prediction: number): Scored => scored(prediction === 0 ? [-1, -2] : [-2, -1], gold);

const outcomes = fc.array(fc.tuple(fc.integer({ min: 0, max: 1 }), fc.integer({ min: 0, max: 1 })), { minLength: 2, maxLength: 40 });

describe('measure', () => {
  it('acc: the likeliest choice, the first of equals', () => {
    expect(measure('acc', [scored([-3, -1, -2], 1)]).value).toBe(1);
    expect(measure('acc', [scored([-1, -1], 1)]).value).toBe(0);
    expect(measure('acc', [scored([-1, -1], 0)]).value).toBe(1);
  });

  it('acc_norm: the likeliest by character, of which one beyond the basic plane is one', () => {
    expect(measure('acc_norm', [scored([-3, -4], 1, ['ab', 'abcd'])]).value).toBe(1);
    // 0.75 a character against 1 a character; in UTF-16 units it would be 0.75 against 0.5.
    expect(measure('acc_norm', [scored([-3, -2], 0, ['abcd', '😀😀'])]).value).toBe(1);
  });

  it('acc of one ending: whether it is what greedy decoding writes', () => {
    const one = (isGreedy: boolean): Scored => ({ endings: ['x'], gold: 0, logLikelihoods: [-9], isGreedy: [isGreedy] });
    expect(measure('acc', [one(true), one(false), one(false), one(false)]).value).toBe(0.25);
  });

  it('the standard error of a share is that of a sample', () => {
    fc.assert(
      fc.property(outcomes, (pairs) => {
        const { value, stderr } = measure(
          'acc',
          pairs.map(([gold, prediction]) => binary(gold, prediction)),
        );
        const share = pairs.filter(([gold, prediction]) => gold === prediction).length / pairs.length;
        expect(value).toBeCloseTo(share, 12);
        expect(stderr).toBeCloseTo(Math.sqrt((share * (1 - share)) / (pairs.length - 1)), 12);
      }),
    );
  });

  it.each(['acc', 'acc_norm', 'f1', 'mcc', 'perplexity'] as const)('the standard error of %s is not known from one example', (metric) => {
    expect(measure(metric, [binary(0, 0)]).stderr).toBeNaN();
  });

  it('f1 is the harmonic mean of precision and recall of choice 1', () => {
    fc.assert(
      fc.property(outcomes, (pairs) => {
        const count = (gold: number, prediction: number) => pairs.filter((pair) => pair[0] === gold && pair[1] === prediction).length;
        const [precision, recall] = [count(1, 1) / (count(1, 1) + count(0, 1)), count(1, 1) / (count(1, 1) + count(1, 0))];
        const expected = count(1, 1) === 0 ? 0 : 2 / (1 / precision + 1 / recall);
        expect(
          measure(
            'f1',
            pairs.map(([gold, prediction]) => binary(gold, prediction)),
          ).value,
        ).toBeCloseTo(expected, 12);
      }),
      { numRuns: 20 },
    );
  });

  it('mcc is the correlation of labels and predictions', () => {
    fc.assert(
      fc.property(outcomes, (pairs) => {
        const mean = (side: 0 | 1): number => pairs.reduce((sum, pair) => sum + pair[side], 0) / pairs.length;
        const product = (a: 0 | 1, b: 0 | 1): number => pairs.reduce((sum, pair) => sum + (pair[a] - mean(a)) * (pair[b] - mean(b)), 0);
        const spread = Math.sqrt(product(0, 0) * product(1, 1));
        const expected = spread < 1e-12 ? 0 : product(0, 1) / spread;
        expect(
          measure(
            'mcc',
            pairs.map(([gold, prediction]) => binary(gold, prediction)),
          ).value,
        ).toBeCloseTo(expected, 9);
      }),
      { numRuns: 20 },
    );
  });

  it('perplexity is that of an ending, with an error by resampling that is the same each time', () => {
    const values = Array.from({ length: 200 }, (_, i) => -1 - Math.sin(i));
    const { value, stderr } = measure(
      'perplexity',
      values.map((one) => scored([one], 0)),
    );
    const mean = values.reduce((sum, one) => sum + one, 0) / values.length;
    const deviation = Math.sqrt(values.reduce((sum, one) => sum + (one - mean) ** 2, 0) / (values.length - 1));
    expect(value).toBeCloseTo(Math.exp(-mean), 12);
    // To first order it is that of the exponent times the value.
    expect(stderr / ((value * deviation) / Math.sqrt(values.length))).toBeGreaterThan(0.9);
    expect(stderr / ((value * deviation) / Math.sqrt(values.length))).toBeLessThan(1.1);
    expect(
      measure(
        'perplexity',
        values.map((one) => scored([one], 0)),
      ).stderr,
    ).toBe(stderr);
  });
});
