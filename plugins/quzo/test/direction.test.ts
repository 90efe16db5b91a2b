// Draws: any part of a stream alone, whatever the buffer, and directions as integers times a factor.
import { createRng } from '@lowbit/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { directionOf } from '../src/direction/direction.js';
import { checkNames, createDraws } from '../src/direction/keys.js';
import { fillNormals, fillSigns, wordAt } from '../src/direction/noise.js';
import type { Parameter, Stream } from '../src/hooks.js';
import type { QuzoInput } from '../src/index.js';
import { createScratch } from '../src/perturbation/scratch.js';
import { freshScratch, hooksFor, parameterOf } from './statistics-oracle.js';

const draws = createDraws(2 ** 53 - 1).at(7, 3);

function parameter(kind: Parameter['kind'], size: number, epsilon: number, perturbBits = 4): Parameter {
  return { name: 'w', kind, shape: [size], size, maxCode: 255, settings: { epsilon, perturbBits, learningRate: 1, sparsity: 0 } };
}

describe('draws', () => {
  it('of names that would be the same are refused', () => {
    // Among 2^17 names two hashes of 32 bits are equal with a probability of 86 %; seeds are tried until some are.
    const random = createRng(1).integers(2 ** 18, 2 ** 30);
    const names = Array.from({ length: 2 ** 17 }, (_, i) => `w${random[2 * i]}.${random[2 * i + 1]}`);
    const collides = [1, 2, 3, 4, 5].some((seed) => {
      try {
        checkNames(names, seed);
        return false;
      } catch (error) {
        expect(error).toMatchObject({ code: 'QUZO_NAMES' });
        return true;
      }
    });
    expect(collides).toBe(true);
    expect(() => checkNames(names.slice(0, 100), 1)).not.toThrow();
  });

  it('are the same in parts as in one piece', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 0, max: 150 }), (size, half) => {
        const key = draws.key('noise', 'w');
        const whole = new Float32Array(size + 2 * half);
        const part = new Float32Array(size);
        fillNormals(key, whole);
        fillNormals(key, part, 2 * half);
        expect(part).toEqual(whole.slice(2 * half));
      }),
    );
  });

  it('give signs by the bits of their words, in buffers of any size and offset', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 200 }), fc.integer({ min: 0, max: 5 }), (size, offset) => {
        const key = draws.key('noise', 'w');
        const signs = new Int8Array(new ArrayBuffer(size + offset), offset, size);
        fillSigns(key, signs);
        const expected = Array.from({ length: size }, (_, i) => ((wordAt(key.low, key.high, i >> 5) >>> (i & 31)) & 1 ? 1 : -1));
        expect([...signs]).toEqual(expected);
      }),
    );
  });

  it('have other keys at every address', () => {
    const keys = new Set<string>();
    const streams: readonly Stream[] = ['noise', 'round1', 'round2', 'update', 'mask', 'radius', 'lazy'];
    const last = { step: 2 ** 21 - 1, query: 255 };
    for (const step of [0, 1, 2, 1000, last.step]) {
      for (const query of [0, 1, last.query]) {
        for (const stream of streams) {
          for (const name of ['', 'a', 'b', 'model.layers.0.mlp.up_proj.codes']) {
            const { low, high } = draws.at(step, query).key(stream, name);
            keys.add(`${low},${high}`);
          }
        }
      }
    }
    expect(keys.size).toBe(5 * 3 * 7 * 4);
  });
});

describe('directions', () => {
  it('of codes are whole numbers, a code at most from what they round', () => {
    for (const epsilon of [0.05, 0.7, 1, 2.5, 16]) {
      const one = parameter('codes', 1000, epsilon);
      const plain = directionOf({ distribution: 'gaussian', isRounded: false })(one, draws, 'round1', createScratch());
      const { values, factor } = directionOf({ distribution: 'gaussian', isRounded: true })(one, draws, 'round1', createScratch());
      expect(factor).toBe(1 / epsilon);
      for (const [i, code] of values.entries()) {
        expect(Math.abs(code - epsilon * plain.values[i])).toBeLessThan(1);
      }
    }
  });

  it('of float elements lie on the grid of their bits, which the largest one spans', () => {
    const { values, factor } = directionOf({ distribution: 'gaussian', isRounded: true })(
      parameter('weights', 40000, 1, 3),
      draws,
      'round1',
      createScratch(),
    );
    expect([...new Set(values)].sort((a, b) => a - b)).toEqual([-3, -2, -1, 0, 1, 2, 3]);
    const plain = directionOf({ distribution: 'gaussian', isRounded: false })(
      parameter('weights', 40000, 1),
      draws,
      'round1',
      createScratch(),
    );
    expect(3 * factor).toBeCloseTo(Math.max(...plain.values.map(Math.abs)), 5);
  });

  it('of signs need no rounding but on the lattice', () => {
    const signs = directionOf({ distribution: 'rademacher', isRounded: true });
    for (const [one, largest] of [
      [parameter('scales', 100, 1e-3), 1],
      [parameter('codes', 100, 1), 1],
      [parameter('codes', 100, 3), 3],
    ] as const) {
      const { values, factor, secondMoment } = signs(one, draws, 'round1', createScratch());
      expect(values.every((v) => Math.abs(v) === largest)).toBe(true);
      expect(factor * largest).toBeCloseTo(1, 12);
      expect(secondMoment).toBe(1);
    }
    expect(signs(parameter('codes', 100, 0.1), draws, 'round1', createScratch()).secondMoment).toBeCloseTo(10, 12);
  });

  it('of one size share buffers only after a reset', () => {
    const scratch = createScratch();
    const [a, b] = [scratch.int8(8), scratch.int8(8)];
    expect(a).not.toBe(b);
    scratch.reset();
    expect(scratch.int8(8)).toBe(a);
    expect(scratch.float32(8)).toHaveLength(8);
    // What is taken after a mark is free again, as often as one likes, and what was taken before it is not.
    const kept = scratch.int8(8);
    const release = scratch.mark();
    const [first, other] = [scratch.int8(8), scratch.float32(5)];
    for (let query = 0; query < 3; query++) {
      release();
      expect(scratch.int8(8)).toBe(first);
      expect(scratch.float32(5)).toBe(other);
    }
    expect(first).not.toBe(kept);
  });
});

describe('a part of a direction', () => {
  const shape = [48, 45];
  const kinds = ['codes', 'weights'] as const;
  const options: QuzoInput[] = [
    {},
    { epsilon: 0.3 },
    { epsilon: 3 },
    { estimator: 'mezo' },
    { distribution: 'gaussian', epsilon: 0.7 },
    { distribution: 'gaussian', estimator: 'mezo' },
    { variant: 'lozo', lozoRank: 3, epsilon: 0.7 },
    { variant: 'lozo', estimator: 'mezo' },
  ];
  it.each(options)('has the elements that it has in the whole: %o', (input) => {
    const { direction } = hooksFor(input);
    for (const kind of kinds) {
      const one = parameterOf({ kind, shape, epsilon: input.epsilon ?? 1 });
      const whole = direction(one, draws, 'round1', freshScratch);
      for (const [start, end] of [
        [0, 2160],
        [0, 96],
        [64, 1001],
        [1024, 2160],
      ]) {
        const part = direction(one, draws, 'round1', createScratch(), { start, end });
        expect(part).toEqual({ ...whole, values: whole.values.slice(start, end) });
      }
    }
  });
});
