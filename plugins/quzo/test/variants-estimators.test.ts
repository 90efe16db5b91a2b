// Variants of estimators: each by the property that defines it.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createDraws } from '../src/direction/keys.js';
import type { QueryLosses } from '../src/hooks.js';
import { createSlots } from '../src/update/slots.js';
import { kernel } from '../src/variants/kerzoo.js';
import { estimator, hooksFor, momentsOf, parameterOf, quadratic, squareNorm } from './statistics-oracle.js';

const draws = createDraws(5);

describe('kerzoo', () => {
  /** Of a polynomial over r uniform in [−1, 1]: Simpson's rule, within 1e-9. */
  function mean(f: (r: number) => number): number {
    const pieces = 2000;
    let total = 0;
    for (let i = 0; i <= pieces; i++) total += (i === 0 || i === pieces ? 1 : i & 1 ? 4 : 2) * f(-1 + (2 * i) / pieces);
    return total / (3 * pieces);
  }

  it('has the moments E[rK] = 1, E[r³K] = 0, and E[r²K²] = 25/4', () => {
    expect(mean((r) => r * kernel(r))).toBeCloseTo(1, 10);
    expect(mean((r) => r ** 3 * kernel(r))).toBeCloseTo(0, 10);
    expect(mean((r) => (r * kernel(r)) ** 2)).toBeCloseTo(6.25, 8);
  });

  it('draws one radius a query, uniform in [−1, 1], and asks for both sides of it', () => {
    const { estimator: chosen } = hooksFor({ variant: 'kerzoo', preset: 'mezo' });
    const asked = Array.from({ length: 20_000 }, (_, i) => chosen.radii(draws.at(1 + (i >> 2), i & 3)));
    expect(asked.every((pair) => pair.length === 2 && pair[1] === -pair[0])).toBe(true);
    const radii = asked.map(([above]) => above);
    for (const x of [-0.9, -0.5, 0, 0.3, 0.8]) {
      expect(Math.abs(radii.filter((r) => r < x).length / radii.length - (x + 1) / 2)).toBeLessThan((4 * 0.5) / Math.sqrt(20_000));
    }
  });

  const start = Float64Array.of(0.6, -0.4);
  const epsilon = 0.7;
  it.each([
    [2, (x: number) => 2 * x, () => 0],
    [3, (x: number) => 3 * x ** 2, () => 3 * epsilon ** 2],
    [4, (x: number) => 4 * x ** 3, (x: number) => 12 * epsilon ** 2 * x],
  ] as const)('is unbiased for x^%d; from the third degree on central differences are not', (degree, gradient, bias) => {
    const { mean: found, error } = momentsOf(
      {
        hooks: hooksFor({ preset: 'mezo', variant: 'kerzoo' }),
        problem: { start, loss: (x) => x[0] ** degree + x[1] ** degree },
        parameter: parameterOf({ kind: 'weights', size: 2, epsilon }),
        queries: 1,
      },
      60_000,
      19,
    );
    for (const [i, x] of start.entries()) {
      expect(Math.abs(found[i] - gradient(x))).toBeLessThan(5 * error[i]);
      if (degree > 2) expect(Math.abs(bias(x))).toBeGreaterThan(10 * error[i]);
    }
  });
});

describe('fzoo', () => {
  const options = { preset: 'mezo', variant: 'fzoo' } as const;
  const size = 16;
  const problem = quadratic(size);
  const parameter = parameterOf({ kind: 'weights', size, epsilon: 1e-3 });

  it('evaluates n + 1 losses a step', () => {
    let count = 0;
    const counted = {
      ...problem,
      loss(x: Float64Array) {
        count++;
        return problem.loss(x);
      },
    };
    estimator({ hooks: hooksFor(options), problem: counted, parameter, queries: 8 })(draws.at(1, 0));
    expect(count).toBe(9);
  });

  it('takes slopes from the center, in units of the deviation of the losses', () => {
    const { slopes } = hooksFor(options).estimator;
    const asked = [1.25, 0.75, 1.5, 0.5].map((loss): QueryLosses => ({ radii: [1], losses: [loss] }));
    const deviation = Math.sqrt((2 * 0.25 ** 2 + 2 * 0.5 ** 2) / 3);
    expect(slopes(asked, 0.01, 0.9)).toEqual([1.25, 0.75, 1.5, 0.5].map((loss) => expect.closeTo((loss - 0.9) / (0.01 * deviation), 9)));
    const equal = asked.map((query) => ({ ...query, losses: [0.7] }));
    expect(slopes(equal, 0.01, 0.9)).toEqual([0, 0, 0, 0]);
  });

  it('gives steps that do not depend on the scale of the loss, along the gradient on average', () => {
    const hooks = hooksFor(options);
    const scaled = { ...problem, loss: (x: Float64Array) => 1000 * problem.loss(x) };
    const of = (p: typeof problem) => momentsOf({ hooks, problem: p, parameter, queries: 8 }, 2000, 3);
    const [plain, thousandfold] = [of(problem), of(scaled)];
    for (let i = 0; i < size; i++)
      expect(Math.abs(plain.mean[i] - thousandfold.mean[i])).toBeLessThan(1e-3 * Math.abs(plain.mean[i]) + 1e-3);
    const dot = plain.mean.reduce((sum, value, i) => sum + value * problem.gradient[i], 0);
    const norms = Math.sqrt(squareNorm(plain.mean) * squareNorm(problem.gradient));
    expect(dot / norms).toBeGreaterThan(0.99);
    // Steps of normalized gradient descent: E ĝ = ∇L / (ε‖∇L‖) for many queries; 0.993 times that measured for 8.
    const share = (dot / Math.sqrt(squareNorm(problem.gradient))) * parameter.settings.epsilon;
    expect(Math.abs(share - 1)).toBeLessThan(0.1);
  });
});

describe('qes', () => {
  const { slopes, radii, needsCenter } = hooksFor({ variant: 'qes' }).estimator;
  const loss = fc.double({ min: 0, max: 10, noNaN: true });

  it('takes half the difference of the standardized losses of a pair, whatever their unit', () => {
    expect(radii(draws)).toEqual([1, -1]);
    expect(needsCenter).toBe(false);
    fc.assert(
      fc.property(
        fc.array(fc.tuple(loss, loss), { minLength: 1, maxLength: 20 }),
        fc.double({ min: 0.1, max: 50, noNaN: true }),
        (pairs, unit) => {
          const all = pairs.flat();
          const mean = all.reduce((sum, x) => sum + x, 0) / all.length;
          const spread = Math.sqrt(all.reduce((sum, x) => sum + (x - mean) ** 2, 0) / all.length);
          fc.pre(spread > 1e-3);
          const asked = (scale: number): QueryLosses[] => pairs.map((losses) => ({ radii: [1, -1], losses: losses.map((x) => scale * x) }));
          const expected = pairs.map(([a, b]) => expect.closeTo(((a - mean) / spread - (b - mean) / spread) / 2, 9));
          expect(slopes(asked(1), 0.1, undefined)).toEqual(expected);
          expect(slopes(asked(unit), 0.3, undefined)).toEqual(expected);
        },
      ),
    );
    expect(slopes([{ radii: [1, -1], losses: [2, 2] }], 0.1, undefined)).toEqual([0]);
  });

  it('follows the same rounding that the losses are of', () => {
    const { estimator: chosen } = hooksFor({ variant: 'qes' });
    expect([chosen.isRounded, chosen.updateRounding, chosen.isDebiased]).toEqual([true, 'round1', false]);
  });

  it('carries what a step leaves: the sum of all steps arrives within half a code', () => {
    const { updater } = hooksFor({ variant: 'qes' });
    const codes = parameterOf({ kind: 'codes', size: 50 });
    const values = new Uint8Array(50).fill(128);
    const slots = createSlots(50);
    const wanted = new Float64Array(50);
    for (let step = 1; step <= 200; step++) {
      const gradient = Float32Array.from({ length: 50 }, (_, i) => Math.sin(step * (i + 1)) + 0.5 * Math.cos(i));
      for (const [i, g] of gradient.entries()) wanted[i] -= Math.fround(0.1 * g);
      updater({ parameter: codes, values, gradient, learningRate: 0.1, draws: draws.at(step, 0), slots });
    }
    for (let i = 0; i < 50; i++) expect(Math.abs(values[i] - 128 - wanted[i])).toBeLessThan(0.5 + 1e-4);
  });
});
