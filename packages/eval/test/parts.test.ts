// Which batches run through the blocks together: as many as their states have memory for, whatever their sizes.
import { tensor } from '@lowbit/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { partsOf, type WindowBatch } from '../src/hidden-states.js';

const batchOf = (tokens: number): WindowBatch => ({ tokens: tensor(new Int32Array(tokens), [1, tokens]), windows: [0] });
const tokensOf = (batches: readonly WindowBatch[]): number => batches.reduce((sum, { tokens }) => sum + tokens.size, 0);

describe('partsOf', () => {
  it('counts every batch, where the first one is small', () => {
    // One text of 192 tokens, then batches of 2048: states of 4096 tokens of width 8 fit.
    const sizes = [192, ...Array.from({ length: 9 }, () => 2048)];
    const parts = partsOf(sizes.map(batchOf), 8, 1, 4 * 8 * 4096);
    expect(parts.map((part) => part.map(({ tokens }) => tokens.size))).toEqual([
      [192, 2048],
      ...Array.from({ length: 4 }, () => [2048, 2048]),
    ]);
  });

  it('keeps the order, fits, and has no part that the next batch would have fitted into', () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 30 });
    fc.assert(
      fc.property(sizes, fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 5000 }), (counts, streams, bytes) => {
        const batches = counts.map(batchOf);
        const parts = partsOf(batches, 3, streams, bytes);
        expect(parts.flat()).toEqual(batches);
        for (const [i, part] of parts.entries()) {
          expect(part.length === 1 || 4 * 3 * streams * tokensOf(part) <= bytes).toBe(true);
          if (i > 0) expect(4 * 3 * streams * tokensOf([...parts[i - 1], part[0]])).toBeGreaterThan(bytes);
        }
      }),
    );
  });
});
