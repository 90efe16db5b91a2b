// Windows held out: how many, which, and that every window is in one of the two lists.
import { createRng } from '@lowbit/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { splitWindows } from '../src/index.js';

const shares = fc.double({ min: 0, max: 1, noNaN: true });

describe('splitWindows', () => {
  it('puts every window into one of two lists, in order', () => {
    fc.assert(
      fc.property(fc.nat({ max: 200 }), shares, fc.nat(), (count, share, seed) => {
        const { trained, heldOut } = splitWindows(count, share, createRng(seed));
        for (const list of [trained, heldOut]) expect(list).toEqual([...list].sort((a, b) => a - b));
        expect([...trained, ...heldOut].sort((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, i) => i));
      }),
    );
  });

  it('holds out the share, one at least and never all; none where the share is 0 or there is one window', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 200 }), shares, (count, share) => {
        const { heldOut } = splitWindows(count, share, createRng(1));
        if (share === 0) expect(heldOut).toEqual([]);
        else {
          expect(heldOut.length).toBeGreaterThanOrEqual(1);
          expect(heldOut.length).toBeLessThan(count);
          if (share * count >= 1 && share * count <= count - 1) expect(Math.abs(heldOut.length - share * count)).toBeLessThanOrEqual(0.5);
        }
      }),
    );
    expect(splitWindows(1, 0.5, createRng(1))).toEqual({ trained: [0], heldOut: [] });
    expect(splitWindows(0, 0.5, createRng(1))).toEqual({ trained: [], heldOut: [] });
  });

  it('draws the same windows from the same address, others from another, and all of them alike', () => {
    const draw = (seed: number): readonly number[] => splitWindows(20, 0.25, createRng(seed)).heldOut;
    expect(draw(3)).toEqual(draw(3));
    const times = new Array<number>(20).fill(0);
    for (let seed = 0; seed < 400; seed++) for (const window of draw(seed)) times[window]++;
    // 100 each, with a deviation of 8.7.
    for (const count of times) expect(Math.abs(count - 100)).toBeLessThan(45);
  });
});
