// Schedules at the steps where they turn.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { constantRate, cosineRate, warmupRate } from '../src/index.js';

describe('learning rates', () => {
  it('constant', () => expect([1, 7, 10].map((step) => constantRate(0.3)(step, 10))).toEqual([0.3, 0.3, 0.3]));

  it('warm-up rises linearly from the first step and stays', () => {
    expect([1, 2, 4, 5, 10].map((step) => warmupRate(2, 4)(step, 10))).toEqual([0.5, 1, 2, 2, 2]);
  });

  it('the cosine falls from the peak to the final fraction', () => {
    const rate = cosineRate({ peak: 2, finalFraction: 0.1 });
    expect(rate(50, 100)).toBeCloseTo(1.1);
    expect(rate(100, 100)).toBeCloseTo(0.2);
    expect(rate(170, 100)).toBeCloseTo(0.2);
    expect(cosineRate({ peak: 2 })(100, 100)).toBeCloseTo(0);
  });

  it('a shorter cosine leaves a plateau', () => {
    const rate = cosineRate({ peak: 2, warmupSteps: 10, decaySteps: 60, finalFraction: 0.1 });
    expect(rate(1, 100)).toBeCloseTo(0.2);
    expect(rate(10, 100)).toBe(2);
    expect(rate(40, 100)).toBe(2);
    expect(rate(70, 100)).toBeCloseTo(1.1);
  });

  it('one step has the peak, whatever the schedule', () => {
    const warmups = [0, 1, 7];
    const schedules = warmups.flatMap((warmupSteps) => [
      warmupRate(2, warmupSteps),
      cosineRate({ peak: 2, warmupSteps }),
      cosineRate({ peak: 2, warmupSteps, decaySteps: 1, finalFraction: 0.1 }),
    ]);
    expect([constantRate(2), ...schedules].map((rate) => rate(1, 1))).toEqual(new Array(10).fill(2));
  });

  it('never leaves what lies between 0 and the peak, and never rises after the warm-up', () => {
    const schedules = fc.record({
      peak: fc.double({ min: 1e-6, max: 10, noNaN: true }),
      warmupSteps: fc.nat(20),
      decaySteps: fc.option(fc.nat(80), { nil: undefined }),
      finalFraction: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    fc.assert(
      fc.property(schedules, ({ decaySteps, ...options }) => {
        const rate = cosineRate(decaySteps === undefined ? options : { ...options, decaySteps });
        for (let step = 1; step <= 100; step++) {
          expect(rate(step, 100)).toBeGreaterThanOrEqual(0);
          expect(rate(step, 100)).toBeLessThanOrEqual(options.peak * (1 + 1e-12));
          if (step > options.warmupSteps) expect(rate(step + 1, 100)).toBeLessThanOrEqual(rate(step, 100));
        }
      }),
      { numRuns: 50 },
    );
  });
});
