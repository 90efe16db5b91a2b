import { createReferenceBackend } from '@lowbit/backend-reference';
import { mul, tensor } from '@lowbit/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { quadraticForm, rowQuadraticForms } from '../src/index.js';
import { flat, multiply, randomGram, randomRows } from './oracle.js';

const backend = createReferenceBackend();

describe('rowQuadraticForms', () => {
  it('is x H xᵀ of every row, whatever the blocks and panels', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 150 }),
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 1, max: 5 }),
        fc.integer(),
        async (n, rows, blocks, seed) => {
          const h = randomGram(n, n, seed);
          const x = randomRows(rows, n, seed + 1);
          const panelOf = (first: number, count: number) => tensor(flat(x.slice(first, first + count)), [count, n]);
          const forms = await rowQuadraticForms(backend, quadraticForm(flat(h), n, { blocks }), rows, panelOf);
          multiply(x, h).forEach((product, r) => {
            const expected = product.reduce((total, value, i) => total + value * x[r][i], 0);
            expect(Math.abs(forms[r] - expected)).toBeLessThanOrEqual(1e-5 * expected);
          });
        },
      ),
      { numRuns: 20 },
    );
  });

  it('serves many rows by panels of one size, the last beginning within the one before', async () => {
    const [n, rows] = [3, 1100];
    const h = randomGram(n, 8, 1);
    const x = flat(randomRows(rows, n, 2));
    const shapes: number[][] = [];
    const panelOf = (first: number, count: number) => {
      shapes.push([first, count]);
      return mul(tensor(x.subarray(first * n, (first + count) * n), [count, n]), 2);
    };
    const forms = await rowQuadraticForms(backend, quadraticForm(flat(h), n), rows, panelOf);
    expect(shapes).toEqual([
      [0, 512],
      [512, 512],
      [588, 512],
    ]);
    for (const r of [0, 511, 512, 600, 1099]) {
      let expected = 0;
      for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) expected += 4 * x[r * n + i] * h[i][j] * x[r * n + j];
      expect(forms[r] / expected).toBeCloseTo(1, 5);
    }
  });

  it('refuses values that fill no square matrix', () => {
    expect(() => quadraticForm(new Float32Array(5), 2)).toThrow(/^SHAPE_DATA: quadraticForm: 5 values/);
  });
});
