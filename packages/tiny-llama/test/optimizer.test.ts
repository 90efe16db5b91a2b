// AdamW and the learning rate schedule against plain float64 loops over the published equations.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng, readFloats, readNumber, tensor } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { adamW, initialState, type OptimizerState } from '../train/optimizer.js';
import { learningRate } from '../train/schedule.js';

describe('adamW', () => {
  it('follows the equations over several clipped and unclipped steps', async () => {
    const backend = createReferenceBackend();
    const rng = createRng(3);
    const options = { beta1: 0.9, beta2: 0.95, epsilon: 1e-6, clipNorm: 2, weightDecay: (name: string) => (name === 'a' ? 0.1 : 0) };
    const start = rng.at('start').normal(8);
    let state: OptimizerState = initialState(
      new Map([
        ['a', tensor(start.slice(0, 6), [2, 3])],
        ['b', tensor(start.slice(6), [2])],
      ]),
    );
    const expected = { p: Array.from(start), m: new Array<number>(8).fill(0), v: new Array<number>(8).fill(0) };
    for (let step = 1; step <= 4; step++) {
      const rate = 0.01 * step;
      const g = rng
        .at('gradient', step)
        .normal(8)
        .map((x) => x * (step === 2 ? 0.1 : 3));
      const update = adamW(
        state,
        new Map([
          ['a', tensor(g.slice(0, 6), [2, 3])],
          ['b', tensor(g.slice(6), [2])],
        ]),
        step,
        rate,
        options,
      );
      const names = ['a', 'b'];
      const maps = [update.state.parameters, update.state.first, update.state.second];
      const leaves = await backend.evaluate([
        update.gradientNorm,
        ...maps.flatMap((map) => names.map((name) => map.get(name) as typeof update.gradientNorm)),
      ]);
      const part = (i: number) => new Map(names.map((name, j) => [name, leaves[1 + 2 * i + j]]));
      state = { parameters: part(0), first: part(1), second: part(2) };

      const norm = Math.hypot(...g);
      expect(await readNumber(leaves[0])).toBeCloseTo(norm, 4);
      const shrink = Math.min(1, 2 / (norm + 1e-6));
      for (let i = 0; i < 8; i++) {
        const clipped = g[i] * shrink;
        expected.m[i] = 0.9 * expected.m[i] + 0.1 * clipped;
        expected.v[i] = 0.95 * expected.v[i] + 0.05 * clipped ** 2;
        const mHat = expected.m[i] / (1 - 0.9 ** step);
        const vHat = expected.v[i] / (1 - 0.95 ** step);
        expected.p[i] -= rate * (i < 6 ? 0.1 : 0) * expected.p[i] + (rate * mHat) / (Math.sqrt(vHat) + 1e-6);
      }
      const got = [...(await readFloats(leaves[1])), ...(await readFloats(leaves[2]))];
      for (const [i, x] of got.entries()) expect(x).toBeCloseTo(expected.p[i], 5);
    }
  });
});

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
