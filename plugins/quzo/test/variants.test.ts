// Variants of directions and selection, and options: each by the property that defines it.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createDraws } from '../src/direction/keys.js';
import { quzoOptions } from '../src/options.js';
import { type PresetName, presets } from '../src/presets.js';
import { createSlots } from '../src/update/slots.js';
import { variantNames } from '../src/variants/names.js';
import { elementsOf, freshScratch, hooksFor, parameterOf, rankOf } from './statistics-oracle.js';

const draws = createDraws(5);

describe('options of variants', () => {
  it('take the defaults of the paper before those of the preset, and what is written before both', () => {
    expect(quzoOptions.parse({ variant: 'fzoo', preset: 'zo-lora-int4' })).toMatchObject({ queries: 8, distribution: 'rademacher' });
    expect(quzoOptions.parse({ variant: 'fzoo', queries: 3 }).queries).toBe(3);
    expect(quzoOptions.parse({ variant: 'sparse-mezo' }).sparsity).toBe(0.75);
    expect(quzoOptions.parse({ variant: 'qes', preset: 'qes-int4' })).toMatchObject({
      estimator: 'rge1',
      rounding: 'error-feedback',
      epsilon: 0.1,
    });
    expect(quzoOptions.parse({}).variant).toBe('none');
    // A preset may bring a variant, and sets its options itself.
    expect(quzoOptions.parse({ preset: 'qes-int4' })).toMatchObject({ variant: 'qes', epsilon: 0.1, queries: 16, carry: '16-bit' });
    expect(quzoOptions.parse({ preset: 'qes-int4', variant: 'none', queries: 2 })).toMatchObject({ variant: 'none', queries: 2 });
  });

  it.each(variantNames)('%s: parsed options parse to themselves, with every preset', (variant) => {
    for (const preset of Object.keys(presets) as PresetName[]) {
      const options = quzoOptions.parse({ preset, variant });
      expect(quzoOptions.parse(options)).toEqual(options);
    }
  });

  it('fzoo needs losses that can differ', () => {
    expect(() => quzoOptions.parse({ variant: 'fzoo', queries: 1 })).toThrow(/queries: 2 or more/);
  });
});

describe('sparse-mezo', () => {
  const select = (selector: ReturnType<typeof hooksFor>['selector'], magnitudes: readonly number[], sparsity: number) => {
    const parameter = parameterOf({ size: magnitudes.length, sparsity });
    return selector({ parameter, draws, magnitudes: () => Float32Array.from(magnitudes) }, freshScratch);
  };

  it('trains the elements below the magnitude that the given share of the first weights lies above', () => {
    const magnitude = fc.float({ min: 0, max: 8, noNaN: true });
    fc.assert(
      fc.property(
        fc.array(magnitude, { minLength: 4, maxLength: 60 }),
        fc.double({ min: 0, max: 0.99, noNaN: true }),
        (first, sparsity) => {
          const { selector } = hooksFor({ variant: 'sparse-mezo' });
          const mask = select(selector, first, sparsity);
          const trained = Math.max(1, first.length - Math.round(sparsity * first.length));
          const limit = first.toSorted((a, b) => a - b)[trained - 1];
          if (limit === 0) return mask === undefined;
          expect(Array.from(mask ?? [])).toEqual(first.map((m) => (m <= limit ? 1 : 0)));
          // The weights have changed: the threshold has not, the mask has.
          const later = first.map((m, i) => (i % 2 === 0 ? m * 2 : m / 2));
          expect(Array.from(select(selector, later, sparsity) ?? [])).toEqual(later.map((m) => (m <= limit ? 1 : 0)));
          return true;
        },
      ),
    );
  });

  it('finds a threshold for every tensor and in every run', () => {
    const { selector } = hooksFor({ variant: 'sparse-mezo' });
    const of = (name: string, magnitudes: number[], chosen = selector) =>
      chosen(
        { parameter: parameterOf({ name, size: 4, sparsity: 0.5 }), draws, magnitudes: () => Float32Array.from(magnitudes) },
        freshScratch,
      );
    expect(of('a', [1, 2, 3, 4])).toEqual(Int8Array.of(1, 1, 0, 0));
    expect(of('b', [10, 40, 20, 30])).toEqual(Int8Array.of(1, 0, 1, 0));
    expect(of('a', [10, 40, 20, 30])).toEqual(Int8Array.of(0, 0, 0, 0));
    expect(of('a', [10, 40, 20, 30], hooksFor({ variant: 'sparse-mezo' }).selector)).toEqual(Int8Array.of(1, 0, 1, 0));
  });
});

describe('lozo', () => {
  const [rows, columns] = [24, 32];
  const parameter = parameterOf({ kind: 'weights', shape: [rows, columns] });
  const hooksOfRank = (lozoRank: number, lozoInterval = 10) => hooksFor({ preset: 'mezo', variant: 'lozo', lozoRank, lozoInterval });

  it.each([1, 2, 4])('directions have rank %d', (rank) => {
    const { elements } = elementsOf(hooksOfRank(rank), parameter, draws.at(3, 0));
    expect(rankOf(elements, rows, columns)).toBe(rank);
  });

  it('keep the factor of the inputs for an interval, for all queries, and draw the other one anew', () => {
    const hooks = hooksOfRank(2, 10);
    const stacked = (...at: [number, number][]) =>
      at.flatMap(([step, query]) => Array.from(elementsOf(hooks, parameter, draws.at(step, query)).elements));
    const rankOfSteps = (...at: [number, number][]) => rankOf(stacked(...at), rows * at.length, columns);
    expect(rankOfSteps([1, 0], [2, 0], [10, 0], [10, 3])).toBe(2);
    expect(rankOfSteps([10, 0], [11, 0])).toBe(4);
    expect(rankOfSteps([11, 0], [20, 0])).toBe(2);
    const across = (a: number, b: number) => {
      const both = [a, b].map((step) => elementsOf(hooks, parameter, draws.at(step, 0)).elements);
      const transposed = both.flatMap((m) =>
        Array.from({ length: rows * columns }, (_, at) => m[(at % rows) * columns + Math.floor(at / rows)]),
      );
      return rankOf(transposed, 2 * columns, rows);
    };
    expect(across(1, 2)).toBe(4);
  });

  it('have elements of mean 0 and variance 1, and the fourth moment 3 + 6/rank of sums of products of normal numbers', () => {
    const rank = 2;
    const hooks = hooksOfRank(rank, 1);
    let [first, second, fourth] = [0, 0, 0];
    const steps = 4000;
    for (let step = 1; step <= steps; step++) {
      const x = elementsOf(hooks, parameterOf({ kind: 'weights', shape: [5, 6] }), draws.at(step, 0)).elements;
      for (const value of x) {
        first += value / (30 * steps);
        second += value ** 2 / (30 * steps);
        fourth += value ** 4 / (30 * steps);
      }
    }
    expect(Math.abs(first)).toBeLessThan(0.015);
    expect(Math.abs(second - 1)).toBeLessThan(0.05);
    expect(Math.abs(fourth / (3 + 6 / rank) - 1)).toBeLessThan(0.2);
  });

  it.each([0.1, 0.5, 2])('rounds to whole codes, of the second moment that it states, σ = %d', (sigma) => {
    const codes = parameterOf({ kind: 'codes', shape: [64, 64], epsilon: sigma });
    const of = (estimate: 'mezo' | 'rge1', step: number) =>
      elementsOf(hooksFor({ variant: 'lozo', estimator: estimate, lozoInterval: 1 }), codes, draws.at(step, 0));
    let [excess, squares, stated, farthest, offGrid] = [0, 0, 0, 0, 0];
    const steps = 100;
    for (let step = 1; step <= steps; step++) {
      const u = of('mezo', step).elements;
      const { elements, secondMoment } = of('rge1', step);
      stated = secondMoment;
      for (const [i, q] of elements.entries()) {
        const difference = q - u[i];
        farthest = Math.max(farthest, Math.abs(difference * sigma));
        offGrid = Math.max(offGrid, Math.abs(q * sigma - Math.round(q * sigma)));
        excess += difference ** 2 / (steps * u.length);
        squares += difference ** 4 / (steps * u.length);
      }
    }
    expect(farthest).toBeLessThan(1 + 1e-5);
    expect(offGrid).toBeLessThan(1e-9);
    const error = Math.sqrt((squares - excess ** 2) / (steps * 128)); // elements of a direction are not independent: 128 numbers make it
    expect(Math.abs(1 + excess - stated)).toBeLessThan(5 * error);
    expect(error / excess).toBeLessThan(0.03);
  });

  it('leaves tensors that are too narrow to the direction without it', () => {
    const narrow = parameterOf({ kind: 'scales', shape: [40, 2] });
    const plain = hooksFor({ preset: 'mezo' });
    expect(elementsOf(hooksOfRank(2), narrow, draws.at(1, 0))).toEqual(elementsOf(plain, narrow, draws.at(1, 0)));
  });
});

describe('presets that select what is trained', () => {
  it('qzo: scales, unrounded, with slopes cut at 100; zo-lora: adapters, unrounded', () => {
    const qzo = quzoOptions.parse({ preset: 'qzo-int4' });
    expect(qzo).toMatchObject({ parameters: 'scales', clip: 100 });
    expect(hooksFor({ preset: 'qzo-int4' }).estimator.isRounded).toBe(false);
    expect(quzoOptions.parse({ preset: 'zo-lora-int4' })).toMatchObject({ parameters: 'adapters', epsilon: 1e-2, rank: 4, queries: 4 });
    expect(hooksFor({ preset: 'zo-lora-int4' }).estimator.isRounded).toBe(false);
  });

  it('qzo: scales end at 0 and do not change their sign', () => {
    const { updater } = hooksFor({ preset: 'qzo-int4' });
    const values = Float32Array.of(0.5, 0.01, 0.2);
    const applied = updater({
      parameter: parameterOf({ kind: 'scales', size: 3 }),
      values,
      gradient: Float32Array.of(1, 1, -1),
      learningRate: 0.25,
      draws,
      slots: createSlots(3),
    });
    expect(values).toEqual(Float32Array.of(0.25, 0, 0.45));
    expect(applied).toEqual({ changed: 3, clamped: 1 });
  });
});
