// The learning rate over cycles.
import { describe, expect, it } from 'vitest';
import { learningRate } from '../train/schedule.js';

describe('learningRate', () => {
  const cycle = { peak: 2, steps: 100, warmupSteps: 10, decaySteps: 60, finalFraction: 0.1 };
  const schedule = [cycle, { ...cycle, peak: 1 }];

  it('rises to the peak, stays, and falls to the final fraction', () => {
    expect(learningRate(schedule, 1)).toBeCloseTo(0.2);
    expect(learningRate(schedule, 10)).toBe(2);
    expect(learningRate(schedule, 40)).toBe(2);
    expect(learningRate(schedule, 70)).toBeCloseTo(1.1);
    expect(learningRate(schedule, 100)).toBeCloseTo(0.2);
  });

  it('begins the next cycle with a warm-up and keeps the last rate after the end', () => {
    expect(learningRate(schedule, 105)).toBeCloseTo(0.5);
    expect(learningRate(schedule, 130)).toBe(1);
    expect(learningRate(schedule, 250)).toBeCloseTo(0.1);
  });
});
