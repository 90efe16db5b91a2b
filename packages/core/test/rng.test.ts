// The counter-based generator: known answers, addresses, distributions.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createRng, philox } from '../src/index.js';

/** Philox4x32-10 in BigInt arithmetic, as the paper writes it. */
function philoxOracle(counter: readonly number[], key: readonly number[]): number[] {
  const mask = 0xffffffffn;
  let [x0, x1, x2, x3] = counter.map(BigInt);
  let [k0, k1] = key.map(BigInt);
  for (let round = 0; round < 10; round++) {
    const [p0, p1] = [0xd2511f53n * x0, 0xcd9e8d57n * x2];
    [x0, x1, x2, x3] = [(p1 >> 32n) ^ x1 ^ k0, p1 & mask, (p0 >> 32n) ^ x3 ^ k1, p0 & mask];
    [k0, k1] = [(k0 + 0x9e3779b9n) & mask, (k1 + 0xbb67ae85n) & mask];
  }
  return [x0, x1, x2, x3].map(Number);
}

describe('seeds', () => {
  it.each([-1, 0.5, 2 ** 53, Number.NaN])('%d is refused', (seed) => {
    expect(() => createRng(seed)).toThrow(/SEED: .*integer from 0/);
  });
});

describe('philox', () => {
  it('gives the published answer for counter 0 and key 0', () => {
    const out = new Uint32Array(4);
    philox(out, 0, 0, 0, 0);
    // Random123, kat_vectors.
    expect([...out]).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
  });

  it('agrees with exact arithmetic', () => {
    const word = fc.integer({ min: 0, max: 2 ** 32 - 1 });
    fc.assert(
      fc.property(word, word, word, word, (c0, c1, k0, k1) => {
        const out = new Uint32Array(4);
        philox(out, c0, c1, k0, k1);
        expect([...out]).toEqual(philoxOracle([c0, c1, 0, 0], [k0, k1]));
      }),
    );
  });
});

describe('addresses', () => {
  const draw = (...path: (string | number)[]): string =>
    createRng(1)
      .at(...path)
      .uniform(4)
      .join();

  it('give equal draws for equal seed and path, whatever was drawn elsewhere', () => {
    const rng = createRng(9).at('step', 2);
    const first = rng.at('q').normal(5);
    rng.uniform(100);
    rng.at('k').permutation(7);
    expect(rng.at('q').normal(5)).toEqual(first);
    expect(createRng(9).at('step').at(2, 'q').normal(5)).toEqual(first);
    expect(createRng(10).at('step', 2, 'q').normal(5)).not.toEqual(first);
  });

  it('tell apart names, numbers and where one name ends', () => {
    const paths = [[], ['a', 'b'], ['ab'], ['b', 'a'], ['a', 'b', ''], ['1'], [1], ['#1'], [-1], [1.5], ['a.b'], ['ä'], ['a', 'b', 0]];
    expect(new Set(paths.map((path) => draw(...path))).size).toBe(paths.length);
  });

  it('do not collide over many paths', () => {
    const seen = new Set<string>();
    for (let step = 0; step < 100; step++)
      for (let layer = 0; layer < 100; layer++) seen.add(draw('step', step, `model.layers.${layer}.mlp.up_proj`, 'quantize'));
    expect(seen.size).toBe(10_000);
  });

  it('seeds beyond 32 bits differ from their low half', () => {
    expect(createRng(2 ** 40 + 5).uniform(2)).not.toEqual(createRng(5).uniform(2));
  });
});

describe('draws', () => {
  const count = 40_000;
  const rng = createRng(123);
  const moment = (values: ArrayLike<number>, power: number): number =>
    Array.from(values).reduce((total, x) => total + x ** power, 0) / values.length;

  it('a shorter draw is the beginning of a longer one', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 30 }), fc.integer({ min: 0, max: 30 }), (a, b) => {
        for (const kind of ['uniform', 'normal', 'signs'] as const) expect(rng[kind](a + b).subarray(0, a)).toEqual(rng[kind](a));
      }),
    );
  });

  it('uniform: 24 bits in [0, 1), even over 16 bins', () => {
    const values = rng.at('uniform').uniform(count);
    expect(values.every((x) => x >= 0 && x < 1 && Number.isInteger(x * 2 ** 24))).toBe(true);
    const bins = new Array<number>(16).fill(0);
    for (const x of values) bins[Math.floor(x * 16)]++;
    // χ² with 15 degrees of freedom: 37.7 is its 99.9th percentile.
    expect(bins.reduce((total, n) => total + (n - count / 16) ** 2 / (count / 16), 0)).toBeLessThan(37.7);
  });

  it('normal: finite, with the moments 0, 1, 0, 3 and no correlation within pairs', () => {
    const values = rng.at('normal').normal(count);
    expect(values.every(Number.isFinite)).toBe(true);
    // Five standard errors of each moment.
    for (const [power, expected, variance] of [
      [1, 0, 1],
      [2, 1, 2],
      [3, 0, 15],
      [4, 3, 96],
    ]) {
      expect(Math.abs(moment(values, power) - expected)).toBeLessThan(5 * Math.sqrt(variance / count));
    }
    const products = Array.from({ length: count / 2 }, (_, i) => values[2 * i] * values[2 * i + 1]);
    expect(Math.abs(moment(products, 1))).toBeLessThan(5 / Math.sqrt(count / 2));
  });

  it('signs: −1 and 1 alike', () => {
    const values = rng.at('signs').signs(count);
    expect(new Set(values)).toEqual(new Set([-1, 1]));
    expect(Math.abs(moment(values, 1))).toBeLessThan(5 / Math.sqrt(count));
  });

  it('integers: below the bound, each as often', () => {
    const values = rng.at('integers').integers(count, 10);
    const bins = new Array<number>(10).fill(0);
    for (const x of values) bins[x]++;
    // χ² with 9 degrees of freedom: 27.9 is its 99.9th percentile.
    expect(bins.reduce((total, n) => total + (n - count / 10) ** 2 / (count / 10), 0)).toBeLessThan(27.9);
  });

  it('permutation: every element once, every place alike', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 200 }), (n) => {
        expect([...rng.at(n).permutation(n)].sort((a, b) => a - b)).toEqual(Array.from({ length: n }, (_, i) => i));
      }),
    );
    const first = new Array<number>(5).fill(0);
    for (let i = 0; i < 5000; i++) first[rng.at('first', i).permutation(5)[0]]++;
    // χ² with 4 degrees of freedom: 18.5 is its 99.9th percentile.
    expect(first.reduce((total, n) => total + (n - 1000) ** 2 / 1000, 0)).toBeLessThan(18.5);
  });
});
