// Stochastic rounding and random numbers: unbiased, of the variance that theory gives, and independent where they should be.
import { describe, expect, it } from 'vitest';
import { createDraws, MOST_QUERIES, MOST_STEPS } from '../src/direction/keys.js';
import { fillNormals } from '../src/direction/noise.js';
import type { Draws, Stream } from '../src/hooks.js';
import { createSlots } from '../src/update/slots.js';
import { updaterOf } from '../src/update/updater.js';
import { correlation, drawsWith, elementsOf, hooksFor, parameterOf } from './statistics-oracle.js';

const fraction = (x: number): number => x - Math.floor(x);

/** Sums over many roundings of the same numbers. */
function roundings(count: number, size: number, round: (time: number) => ArrayLike<number>) {
  const sums = new Float64Array(size);
  const squares = new Float64Array(size);
  for (let time = 1; time <= count; time++) {
    const rounded = round(time);
    for (let i = 0; i < size; i++) {
      sums[i] += rounded[i];
      squares[i] += rounded[i] ** 2;
    }
  }
  const mean = sums.map((sum) => sum / count);
  return { mean, variance: squares.map((square, i) => square / count - mean[i] ** 2) };
}

describe('stochastic rounding of directions', () => {
  // 10000 roundings of 64 elements: a bias of 0.05 codes in one element is 10 standard errors, nearest rounding up to 100.
  const times = 10_000;
  const size = 64;

  it.each([
    ['gaussian', 0.05],
    ['gaussian', 0.3],
    ['gaussian', 1],
    ['gaussian', 2.6],
    ['rademacher', 0.05],
    ['rademacher', 0.5],
    ['rademacher', 2.3],
  ] as const)('%s with σ = %d: of mean x, of variance f(1 − f), to one of the two neighbours', (distribution, sigma) => {
    const options = { preset: 'quzo-lattice-int8', distribution } as const;
    const parameter = parameterOf({ kind: 'codes', size, epsilon: sigma });
    const draws = createDraws(31).at(1, 0);
    const exact = elementsOf(hooksFor({ ...options, estimator: 'mezo' }), parameter, draws).elements.map((u) => sigma * u);
    const rounded = hooksFor({ ...options, estimator: 'rge1' });
    let farthest = 0;
    let fractions = 0;
    const { mean, variance } = roundings(times, size, (time) => {
      const { elements } = elementsOf(rounded, parameter, drawsWith(draws, ['noise'], draws.at(time, 0)));
      for (let i = 0; i < size; i++) {
        elements[i] *= sigma;
        farthest = Math.max(farthest, Math.abs(elements[i] - exact[i]));
        fractions = Math.max(fractions, Math.abs(elements[i] - Math.round(elements[i])));
      }
      return elements;
    });
    expect(fractions).toBeLessThan(1e-12);
    expect(farthest).toBeLessThan(1);
    const expected = exact.map((x) => fraction(x) * (1 - fraction(x)));
    // 448 comparisons at 5 standard errors; the least of them, where roundings up are a handful, count as one rounding.
    for (let i = 0; i < size; i++) expect(Math.abs(mean[i] - exact[i])).toBeLessThan(5 * Math.sqrt(expected[i] / times) + 1 / times);
    const total = (values: Float64Array): number => values.reduce((sum, value) => sum + value, 0);
    expect(total(variance) / total(expected)).toBeCloseTo(1, 1.5); // ±1.6 %, 0.4 % expected
  });

  it('leaves what lies on the grid as it is', () => {
    for (const sigma of [1, 3]) {
      const parameter = parameterOf({ kind: 'codes', size: 200, epsilon: sigma });
      const draws = createDraws(5).at(3, 1);
      const of = (estimator: 'mezo' | 'rge1') => elementsOf(hooksFor({ estimator, distribution: 'rademacher' }), parameter, draws).elements;
      expect(of('rge1')).toEqual(of('mezo'));
    }
  });
});

describe('stochastic rounding of steps', () => {
  const update = updaterOf({ rounding: 'sr', carryDecay: 1, carry: 'float32', weightDecay: 0 });
  const gradient = Float32Array.from({ length: 61 }, (_, i) => (i - 30) / 11);
  const parameter = parameterOf({ kind: 'codes', size: gradient.length });

  function step(from: number, learningRate: number, draws: Draws) {
    const values = new Uint8Array(gradient.length).fill(from);
    const applied = update({ parameter, values, gradient: gradient.slice(), learningRate, draws, slots: createSlots(gradient.length) });
    return { moved: Float64Array.from(values, (value) => value - from), applied };
  }

  it.each([0.01, 0.3, 1.7])('is of mean −η·ĝ and of variance f(1 − f), η = %d', (learningRate) => {
    // Standard errors of at most 0.005: a bias of 0.03 codes in any of 61 elements fails; rounding to nearest is off by up to 0.5.
    const times = 10_000;
    const draws = createDraws(77);
    const { mean, variance } = roundings(times, gradient.length, (time) => step(100, learningRate, draws.at(time, 0)).moved);
    for (const [i, g] of gradient.entries()) {
      const wanted = -learningRate * g;
      const expected = fraction(wanted) * (1 - fraction(wanted));
      expect(Math.abs(mean[i] - wanted)).toBeLessThan(5 * Math.sqrt(expected / times) + 1 / times);
      expect(Math.abs(variance[i] - expected)).toBeLessThan(5 * Math.sqrt(expected / times) + 1 / times);
    }
  });

  it('counts what the ends of the grid cut, which is biased there', () => {
    const { moved, applied } = step(0, 1, createDraws(7).at(1, 0));
    expect(Math.min(...moved)).toBe(0);
    expect(applied.clamped).toBeGreaterThan(20); // half of the steps lead below 0
    expect(applied.changed).toBe(moved.filter((value) => value !== 0).length);
  });
});

describe('random numbers', () => {
  // A correlation of 0.012 fails in 98 of 100 cases; streams that share an address have one of 1.
  const size = 2 ** 18;
  const limit = 4 / Math.sqrt(size);
  const run = createDraws(2024);

  it('normal ones have mean 0, variance 1, skewness 0 and kurtosis 3, and the quantiles of N(0, 1)', () => {
    const x = new Float32Array(size);
    fillNormals(run.at(1, 0).key('noise', 'w'), x);
    const moment = (power: number): number => x.reduce((sum, value) => sum + value ** power, 0) / size;
    expect(Math.abs(moment(1))).toBeLessThan(4 / 512);
    expect(Math.abs(moment(2) - 1)).toBeLessThan((4 * Math.SQRT2) / 512);
    expect(Math.abs(moment(3))).toBeLessThan((4 * Math.sqrt(15)) / 512);
    expect(Math.abs(moment(4) - 3)).toBeLessThan((4 * Math.sqrt(96)) / 512);
    for (const [at, below] of [
      [-3, 0.001349898],
      [-1, 0.158655254],
      [0, 0.5],
      [0.5, 0.691462461],
      [2, 0.977249868],
    ]) {
      const share = x.filter((value) => value < at).length / size;
      expect(Math.abs(share - below)).toBeLessThan((4 * Math.sqrt(below * (1 - below))) / 512 + 2 ** -16);
    }
  });

  it.each(['gaussian', 'rademacher'] as const)('%s: directions and their roundings do not correlate', (distribution) => {
    const sigma = 0.4;
    const direction = (draws: Draws, name: string, rounding?: 'round1' | 'round2') => {
      const hooks = hooksFor({ estimator: rounding ? 'rge1' : 'mezo', distribution });
      return elementsOf(hooks, parameterOf({ name, kind: 'codes', size, epsilon: sigma }), draws, rounding).elements;
    };
    const error = (draws: Draws, name: string, rounding: 'round1' | 'round2') => {
      const u = direction(draws, name);
      return direction(draws, name, rounding).map((q, i) => q - u[i]);
    };
    const own = run.at(5, 1);
    const u = direction(own, 'a');
    const e = error(own, 'a', 'round1');
    const others = {
      'the other rounding': [e, error(own, 'a', 'round2')],
      'rounding and direction': [e, u],
      'rounding of another tensor': [e, error(own, 'b', 'round1')],
      'rounding of another step': [e, error(run.at(6, 1), 'a', 'round1')],
      'another tensor': [u, direction(own, 'b')],
      'another query': [u, direction(run.at(5, 2), 'a')],
      'another step': [u, direction(run.at(6, 1), 'a')],
      'another seed': [u, direction(createDraws(2025).at(5, 1), 'a')],
      neighbours: [u, u.subarray(1)],
      'neighbours but one': [u, u.subarray(2)],
      'neighbouring words': [u, u.subarray(32)],
      'roundings of neighbours': [e, e.subarray(1)],
    };
    for (const [what, [a, b]] of Object.entries(others)) expect(Math.abs(correlation(a, b)), what).toBeLessThan(limit);
    expect(correlation(e, error(own, 'a', 'round1'))).toBeCloseTo(1, 10);
  });

  it('have a key of their own for every step, query, tensor and stream', () => {
    const streams: Stream[] = ['noise', 'round1', 'round2', 'update', 'mask', 'radius', 'lazy'];
    const names = ['', ...Array.from({ length: 24 }, (_, i) => `blocks.${i >> 2}.${['q', 'k', 'v', 'o'][i & 3]}.codes`)];
    const steps = [...Array.from({ length: 60 }, (_, i) => i + 1), 2 ** 11, 2 ** 20, MOST_STEPS];
    const queries = [0, 1, 2, 3, 8, 128, MOST_QUERIES - 1];
    const known = new Set<number>();
    for (const seed of [0, 1, 2 ** 40]) {
      const draws = createDraws(seed);
      for (const step of steps) {
        for (const query of queries) {
          for (const name of names) {
            for (const stream of streams) {
              const { low, high } = draws.at(step, query).key(stream, name);
              known.add((low >>> 0) + (high & 0x1fffff) * 2 ** 32); // 53 of the 64 bits
            }
          }
        }
      }
    }
    expect(known.size).toBe(3 * steps.length * queries.length * names.length * streams.length);
  });
});
