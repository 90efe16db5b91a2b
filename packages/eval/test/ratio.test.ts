import { createRng } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { exponentiate, meanPerToken } from '../src/index.js';

describe('meanPerToken', () => {
  it('is the mean over tokens, and its error that of the mean of equal windows', () => {
    const sums = Float64Array.of(2, 4, 9);
    const { value, stderr } = meanPerToken({ sums, squares: 0 }, Float64Array.of(2, 2, 2));
    expect(value).toBeCloseTo(2.5, 12);
    // Standard error of the mean of 1, 2 and 4.5.
    const [m, means] = [2.5, [1, 2, 4.5]];
    expect(stderr).toBeCloseTo(Math.sqrt(means.reduce((a, x) => a + (x - m) ** 2, 0) / 2 / 3), 12);
  });

  it('weighs windows by their tokens', () => {
    expect(meanPerToken({ sums: Float64Array.of(1, 9), squares: 0 }, Float64Array.of(1, 3)).value).toBeCloseTo(2.5, 12);
    expect(meanPerToken({ sums: Float64Array.of(2, 6), squares: 0 }, Float64Array.of(1, 3)).stderr).toBe(0);
  });

  it('takes tokens as units when there is one window', () => {
    const { value, stderr } = meanPerToken({ sums: Float64Array.of(6), squares: 1 + 4 + 9 }, Float64Array.of(3));
    expect(value).toBe(2);
    expect(stderr).toBeCloseTo(1 / Math.sqrt(3), 12);
  });

  it('gives what each window makes of the mean, from which its error follows, also where windows differ in length', () => {
    const counts = Float64Array.of(1, 3, 2, 6);
    const { value, stderr, byWindow = [] } = meanPerToken({ sums: Float64Array.of(1, 9, 3, 8), squares: 0 }, counts);
    const mean = byWindow.reduce((a, b) => a + b) / 4;
    expect(mean).toBeCloseTo(value, 12);
    expect(Math.sqrt(byWindow.reduce((a, one) => a + (one - mean) ** 2, 0) / 3 / 4)).toBeCloseTo(stderr, 12);
    const equal = meanPerToken({ sums: Float64Array.of(2, 4, 9), squares: 0 }, Float64Array.of(2, 2, 2));
    expect(equal.byWindow).toEqual([1, 2, 4.5]);
    expect(meanPerToken({ sums: Float64Array.of(6), squares: 14 }, Float64Array.of(3)).byWindow).toBeUndefined();
  });

  it('covers the truth about as often as it says, also when tokens of a window go together', () => {
    let covered = 0;
    const [trials, windows, tokens] = [400, 30, 10];
    for (let trial = 0; trial < trials; trial++) {
      const shared = createRng(trial).at('window').normal(windows);
      const own = createRng(trial)
        .at('token')
        .normal(windows * tokens);
      const sums = Float64Array.from(shared, (s, w) => tokens * s + own.subarray(w * tokens, (w + 1) * tokens).reduce((a, b) => a + b, 0));
      const { value, stderr } = meanPerToken({ sums, squares: 0 }, new Float64Array(windows).fill(tokens));
      if (Math.abs(value) < 1.96 * stderr) covered++;
    }
    // 95 % nominal; 30 windows and 400 trials leave ±3 %.
    expect(covered / trials).toBeGreaterThan(0.9);
    expect(covered / trials).toBeLessThan(0.98);
  });
});

describe('exponentiate', () => {
  it('has the delta method’s error', () => {
    expect(exponentiate({ value: 2, stderr: 0.1 })).toEqual({ value: Math.exp(2), stderr: Math.exp(2) * 0.1 });
  });

  it('has windows whose mean and error are its own', () => {
    const estimate = meanPerToken({ sums: Float64Array.of(1, 2, 4.5), squares: 0 }, Float64Array.of(1, 1, 1));
    const { value, stderr, byWindow = [] } = exponentiate(estimate);
    expect(byWindow.reduce((a, b) => a + b) / 3).toBeCloseTo(value, 10);
    expect(Math.sqrt(byWindow.reduce((a, one) => a + (one - value) ** 2, 0) / 2 / 3)).toBeCloseTo(stderr, 10);
  });
});
