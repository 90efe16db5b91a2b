import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng } from '@lowbit/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { qr, symmetricEigen, topEigenvectors, truncatedSvd } from '../src/index.js';
import { flat, identity, multiply, type Rows, randomRows, relativeDifference, toRows, transposeRows } from './oracle.js';

const backend = createReferenceBackend();
const rng = createRng(11);

/** Gram-Schmidt on the columns of normals: orthonormal to float64 for small sizes. */
function orthonormal(n: number, count: number, seed: number): Rows {
  const columns: number[][] = [];
  for (const column of randomRows(count, n, seed)) {
    for (let pass = 0; pass < 2; pass++) {
      for (const other of columns) {
        const along = column.reduce((total, value, i) => total + value * other[i], 0);
        for (const [i, value] of other.entries()) column[i] -= along * value;
      }
    }
    const norm = Math.hypot(...column);
    columns.push(column.map((value) => value / norm));
  }
  return transposeRows(columns);
}

/** Q diag(values) Qᵀ. */
function withSpectrum(values: number[], seed: number): { matrix: Rows; q: Rows } {
  const q = orthonormal(values.length, values.length, seed);
  return {
    matrix: multiply(
      q.map((row) => row.map((value, j) => value * values[j])),
      transposeRows(q),
    ),
    q,
  };
}

describe('qr', () => {
  it('A = QR, QᵀQ = I, R upper with a positive diagonal, for every shape and panel', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 24 }),
        fc.integer({ min: 0, max: 12 }),
        fc.integer({ min: 1, max: 9 }),
        fc.integer(),
        async (columns, extra, panelSize, seed) => {
          const a = randomRows(columns + extra, columns, seed);
          const result = await qr(backend, flat(a), [columns + extra, columns], { panelSize });
          const q = toRows(result.q, columns + extra, columns);
          const r = toRows(result.r, columns, columns);
          expect(relativeDifference(multiply(q, r), a)).toBeLessThan(1e-5);
          expect(relativeDifference(multiply(transposeRows(q), q), identity(columns))).toBeLessThan(1e-6);
          expect(r.every((row, i) => row[i] >= 0 && row.slice(0, i).every((value) => value === 0))).toBe(true);
        },
      ),
      { numRuns: 30 },
    );
  });

  it('completes dependent columns to an orthonormal basis', async () => {
    const a = multiply(randomRows(20, 3, 1), randomRows(3, 12, 2));
    const result = await qr(backend, flat(a), [20, 12], { panelSize: 4 });
    const q = toRows(result.q, 20, 12);
    expect(relativeDifference(multiply(transposeRows(q), q), identity(12))).toBeLessThan(1e-6);
    expect(relativeDifference(multiply(q, toRows(result.r, 12, 12)), a)).toBeLessThan(1e-5);
    const zeros = toRows((await qr(backend, new Float32Array(12), [4, 3], { panelSize: 1 })).q, 4, 3);
    expect(relativeDifference(multiply(transposeRows(zeros), zeros), identity(3))).toBeLessThan(1e-6);
  });

  it('refuses more columns than rows', async () => {
    await expect(qr(backend, new Float32Array(6), [2, 3])).rejects.toMatchObject({ code: 'SHAPE_QR' });
    await expect(qr(backend, new Float32Array(5), [3, 2])).rejects.toMatchObject({ code: 'SHAPE_DATA' });
  });
});

describe('symmetricEigen', () => {
  it('finds the spectrum a matrix was made with', () => {
    const values = [9, 4, 4, 1, 0.5, 0, -2];
    const { matrix } = withSpectrum(values, 3);
    const found = symmetricEigen(Float64Array.from(matrix.flat()), 7);
    for (const [i, value] of values.entries()) expect(found.values[i]).toBeCloseTo(value, 12);
    const v = toRows(found.vectors, 7, 7);
    expect(relativeDifference(multiply(v, transposeRows(v)), identity(7))).toBeLessThan(1e-13);
    expect(
      relativeDifference(
        multiply(multiply(v, matrix), transposeRows(v)),
        identity(7).map((row, i) => row.map((e) => e * found.values[i])),
      ),
    ).toBeLessThan(1e-12);
  });

  it('refuses elements that are not finite', () => {
    expect(() => symmetricEigen(Float64Array.of(Number.NaN), 1)).toThrow(/EIGEN_INPUT/);
  });
});

describe('topEigenvectors', () => {
  const spectra: [string, number[]][] = [
    ['decaying like 1/i', Array.from({ length: 60 }, (_, i) => 1 / (i + 1))],
    ['with outliers', Array.from({ length: 60 }, (_, i) => (i < 3 ? 1e3 / (i + 1) : 1 / (i + 1)))],
    ['of low rank', Array.from({ length: 60 }, (_, i) => (i < 4 ? 4 - i : 0))],
    ['nearly flat', Array.from({ length: 60 }, (_, i) => 2 - i / 60)],
  ];
  it.each(spectra)('agrees with the spectrum %s', async (_, values) => {
    const { matrix, q } = withSpectrum(values, 5);
    const found = await topEigenvectors(backend, flat(matrix), 60, 6, { rng, tolerance: 1e-4 });
    expect(found.residual).toBeLessThanOrEqual(1e-4);
    for (let i = 0; i < 6; i++) expect(Math.abs(found.values[i] - values[i])).toBeLessThan(1e-5 * values[0]);
    const v = toRows(found.vectors, 60, 6);
    expect(relativeDifference(multiply(transposeRows(v), v), identity(6))).toBeLessThan(1e-5);
    // Energy of the found subspace inside the true one, over the eigenvalues that are separated from the rest.
    const overlap = multiply(transposeRows(q.map((row) => row.slice(0, 6))), v);
    const captured = overlap.flat().reduce((total, value) => total + value * value, 0);
    if (values[5] > 1.05 * values[6]) expect(captured).toBeGreaterThan(6 - 1e-3);
  });

  it('is exact when the block spans everything, and repeats itself', async () => {
    const { matrix } = withSpectrum([5, 3, 2, 1], 8);
    const first = await topEigenvectors(backend, flat(matrix), 4, 4, { rng });
    expect([...first.values].map((value) => Math.round(value * 1e4) / 1e4)).toEqual([5, 3, 2, 1]);
    expect((await topEigenvectors(backend, flat(matrix), 4, 4, { rng })).vectors).toEqual(first.vectors);
  });

  it('refuses impossible counts and indefinite matrices', async () => {
    await expect(topEigenvectors(backend, new Float32Array(4), 2, 3, { rng })).rejects.toMatchObject({ code: 'EIGEN_COUNT' });
    await expect(topEigenvectors(backend, Float32Array.of(1, 0, 0, -1), 2, 1, { rng })).rejects.toMatchObject({ code: 'EIGEN_INDEFINITE' });
    await expect(topEigenvectors(backend, new Float32Array(3), 2, 1, { rng })).rejects.toMatchObject({ code: 'SHAPE_DATA' });
  });
});

describe('truncatedSvd', () => {
  it.each([
    [30, 50],
    [50, 30],
    [40, 40],
  ])('%i×%i: near the best error of its rank', async (rows, columns) => {
    const smaller = Math.min(rows, columns);
    const values = Array.from({ length: smaller }, (_, i) => 0.8 ** i);
    const u = orthonormal(rows, smaller, 1);
    const v = orthonormal(columns, smaller, 2);
    const matrix = multiply(
      u.map((row) => row.map((value, j) => value * values[j])),
      transposeRows(v),
    );
    const found = await truncatedSvd(backend, flat(matrix), [rows, columns], 5, { rng });
    for (let i = 0; i < 5; i++) expect(found.values[i] / values[i]).toBeCloseTo(1, 5);
    const left = toRows(found.u, rows, 5);
    const right = toRows(found.v, columns, 5);
    expect(relativeDifference(multiply(transposeRows(left), left), identity(5))).toBeLessThan(1e-5);
    expect(relativeDifference(multiply(transposeRows(right), right), identity(5))).toBeLessThan(1e-5);
    const approximation = multiply(
      left.map((row) => row.map((value, j) => value * found.values[j])),
      transposeRows(right),
    );
    const error = Math.hypot(...approximation.flatMap((row, i) => row.map((value, j) => value - matrix[i][j])));
    expect(error).toBeLessThan(Math.hypot(...values.slice(5)) * (1 + 1e-4));
  });

  it('recovers a matrix of lower rank exactly, with orthonormal factors', async () => {
    const matrix = multiply(randomRows(12, 2, 3), randomRows(2, 9, 4));
    const found = await truncatedSvd(backend, flat(matrix), [12, 9], 4, { rng });
    const left = toRows(found.u, 12, 4);
    const right = toRows(found.v, 9, 4);
    expect(
      relativeDifference(
        multiply(
          left.map((row) => row.map((value, j) => value * found.values[j])),
          transposeRows(right),
        ),
        matrix,
      ),
    ).toBeLessThan(1e-5);
    expect(relativeDifference(multiply(transposeRows(left), left), identity(4))).toBeLessThan(1e-5);
  });

  it('refuses impossible ranks', async () => {
    await expect(truncatedSvd(backend, new Float32Array(6), [2, 3], 3, { rng })).rejects.toMatchObject({ code: 'SVD_RANK' });
    await expect(truncatedSvd(backend, new Float32Array(5), [2, 3], 1, { rng })).rejects.toMatchObject({ code: 'SHAPE_DATA' });
  });
});
