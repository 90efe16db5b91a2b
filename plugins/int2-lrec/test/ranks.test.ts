// Ranks from a budget: never above it, and below it by less than one more rank of anything.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type AdaptedLayers, ranksWithin } from '../src/adapters/ranks.js';

const layers = fc.uniqueArray(
  fc.record({
    name: fc.constantFrom('q', 'k', 'v', 'o', 'gate', 'up', 'down'),
    inFeatures: fc.integer({ min: 1, max: 64 }),
    outFeatures: fc.integer({ min: 1, max: 64 }),
    bits: fc.integer({ min: 1, max: 512 }),
  }),
  { selector: ({ name }) => name, minLength: 1 },
);

describe('ranksWithin', () => {
  it('spends the budget, down to less than one rank of the cheapest layer that could have more', () => {
    fc.assert(
      fc.property(layers, fc.integer({ min: 0, max: 50_000 }), (given, budget) => {
        const ranks = ranksWithin(budget, given);
        const rankOf = ({ name }: AdaptedLayers): number => ranks.get(name) as number;
        const spent = given.reduce((total, layer) => total + rankOf(layer) * layer.bits, 0);
        expect(spent).toBeLessThanOrEqual(budget);
        for (const layer of given) expect(rankOf(layer)).toBeLessThanOrEqual(Math.min(layer.inFeatures, layer.outFeatures));
        const lowest = Math.min(...given.filter((layer) => rankOf(layer) < Math.min(layer.inFeatures, layer.outFeatures)).map(rankOf));
        const raisable = given.filter((layer) => rankOf(layer) === lowest && lowest < Math.min(layer.inFeatures, layer.outFeatures));
        for (const layer of raisable) expect(budget - spent).toBeLessThan(layer.bits);
      }),
    );
  });

  it('gives the larger layers the rank that not all can have', () => {
    const shape = { inFeatures: 8, outFeatures: 8, bits: 32 };
    const given = [
      { name: 'small', ...shape },
      { name: 'large', ...shape, outFeatures: 24, bits: 64 },
    ];
    expect([...ranksWithin(96 * 2 + 70, given)]).toEqual([
      ['small', 2],
      ['large', 3],
    ]);
    expect([...ranksWithin(31, given)]).toEqual([
      ['small', 0],
      ['large', 0],
    ]);
  });
});
