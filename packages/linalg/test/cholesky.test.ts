import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createReferenceBackend } from '@lowbit/backend-reference';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cholesky, inverseUpperFactor, solveTriangular } from '../src/index.js';
import { flat, identity, multiply, type Rows, randomGram, randomRows, relativeDifference, solve, toRows, transposeRows } from './oracle.js';

const backend = createReferenceBackend();

/** Cholesky-Banachiewicz in float64. */
function textbookCholesky(a: Rows): Rows {
  const n = a.length;
  const l = identity(n).map((row) => row.map(() => 0));
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      const rest = a[i][j] - l[i].slice(0, j).reduce((total, value, k) => total + value * l[j][k], 0);
      l[i][j] = i === j ? Math.sqrt(rest) : rest / l[j][j];
    }
  }
  return l;
}

function damped(a: Rows, relative: number): Rows {
  const mean = a.reduce((total, row, i) => total + row[i], 0) / a.length;
  return a.map((row, i) => row.map((value, j) => value + (i === j ? relative * mean : 0)));
}

describe('cholesky', () => {
  it.each([
    [1, 8],
    [7, 8],
    [8, 8],
    [9, 8],
    [37, 8],
    [64, 8],
    [70, 64],
  ])('order %i in blocks of %i equals the textbook factor', async (n, blockSize) => {
    const a = randomGram(n, 3 * n, n);
    const { lower, dampening } = await cholesky(backend, flat(a), n, { blockSize });
    expect(dampening).toBe(0);
    expect(relativeDifference(toRows(lower, n, n), textbookCholesky(a))).toBeLessThan(2e-5);
  });

  it('adds the dampening it was asked for', async () => {
    const a = randomGram(20, 60, 5);
    const { lower, dampening } = await cholesky(backend, flat(a), 20, { dampening: 0.1, blockSize: 4 });
    const l = toRows(lower, 20, 20);
    expect(dampening).toBe(0.1);
    expect(relativeDifference(multiply(l, transposeRows(l)), damped(a, 0.1))).toBeLessThan(1e-6);
  });

  it('raises the dampening of a singular matrix geometrically and says so', async () => {
    const a = randomGram(24, 6, 9);
    const { lower, dampening } = await cholesky(backend, flat(a), 24, { dampening: 1e-9, blockSize: 4 });
    expect(dampening).toBeGreaterThanOrEqual(1e-6);
    expect(dampening).toBeLessThanOrEqual(1e-3);
    const l = toRows(lower, 24, 24);
    expect(relativeDifference(multiply(l, transposeRows(l)), damped(a, dampening))).toBeLessThan(1e-5);
  });

  it('dampens a matrix of zeros absolutely', async () => {
    const { lower, dampening } = await cholesky(backend, new Float32Array(9), 3);
    expect(dampening).toBe(1e-6);
    expect(lower[0]).toBeCloseTo(1e-3, 9);
  });

  it('refuses what cannot be factored', async () => {
    await expect(cholesky(backend, Float32Array.of(1, 0, 0, -1), 2)).rejects.toMatchObject({ code: 'CHOLESKY_INPUT' });
    await expect(cholesky(backend, Float32Array.of(1, 0, 0, Number.NaN), 2)).rejects.toMatchObject({ code: 'CHOLESKY_INPUT' });
    await expect(cholesky(backend, Float32Array.of(1, 0, 0, 1), 2, { dampening: -1 })).rejects.toMatchObject({ code: 'CHOLESKY_INPUT' });
    await expect(cholesky(backend, Float32Array.of(1, 0, Number.NaN, 1), 2)).rejects.toMatchObject({ code: 'CHOLESKY_FAILED' });
    await expect(cholesky(backend, Float32Array.of(1, 2, 3), 2)).rejects.toMatchObject({ code: 'SHAPE_DATA' });
  });
});

describe('inverseUpperFactor', () => {
  it('gives UᵀU = A⁻¹ with U upper triangular, for every size and block', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 16 }), fc.integer(), async (n, blockSize, seed) => {
        const a = damped(randomGram(n, 2 * n + 4, seed), 0.05);
        const { upper } = await inverseUpperFactor(backend, flat(a), n, { blockSize });
        const u = toRows(upper, n, n);
        expect(u.every((row, i) => row.slice(0, i).every((value) => value === 0))).toBe(true);
        expect(relativeDifference(multiply(transposeRows(u), u), solve(a, identity(n)))).toBeLessThan(2e-3);
      }),
      { numRuns: 25 },
    );
  });

  it('factors the rows and columns of an order, in that order', async () => {
    const a = randomGram(12, 40, 3);
    const order = [7, 2, 11, 5, 0];
    const { upper } = await inverseUpperFactor(backend, flat(a), 12, { order, blockSize: 2 });
    const u = toRows(upper, 5, 5);
    const chosen = order.map((i) => order.map((j) => a[i][j]));
    expect(relativeDifference(multiply(transposeRows(u), u), solve(chosen, identity(5)))).toBeLessThan(1e-4);
  });

  it('on the default backend, a size that divides unevenly', async () => {
    const onnx = await createOnnxBackend({ threads: 1 });
    const a = randomGram(150, 400, 6);
    const { upper } = await inverseUpperFactor(onnx, flat(a), 150, { dampening: 0.01 });
    const expected = await inverseUpperFactor(backend, flat(a), 150, { dampening: 0.01 });
    expect(relativeDifference(toRows(upper, 150, 150), toRows(expected.upper, 150, 150))).toBeLessThan(1e-4);
    // Parts of 64 and 64, then 128 and 22: two programs each.
    expect(onnx.statistics.compilations).toBeLessThanOrEqual(4);
    await onnx.dispose();
  });

  it('takes a float64 matrix too', async () => {
    const a = randomGram(10, 40, 4);
    const fromFloat64 = await inverseUpperFactor(backend, Float64Array.from(a.flat()), 10);
    const fromFloat32 = await inverseUpperFactor(backend, flat(a), 10);
    expect(fromFloat64.upper).toEqual(fromFloat32.upper);
  });
});

describe('solveTriangular', () => {
  it.each([
    [5, 3, 8],
    [30, 1, 4],
    [33, 7, 8],
  ])('order %i, %i columns, blocks of %i, both directions', async (n, columns, blockSize) => {
    const l = textbookCholesky(randomGram(n, 4 * n, 1)).map((row) => row.map(Math.fround));
    const b = randomRows(n, columns, 2);
    const forward = await solveTriangular(backend, flat(l), n, flat(b), columns, { blockSize });
    const backward = await solveTriangular(backend, flat(l), n, flat(b), columns, { blockSize, transpose: true });
    expect(relativeDifference(multiply(l, toRows(forward, n, columns)), b)).toBeLessThan(1e-4);
    expect(relativeDifference(multiply(transposeRows(l), toRows(backward, n, columns)), b)).toBeLessThan(1e-4);
  });

  it('refuses a singular system', async () => {
    await expect(solveTriangular(backend, Float32Array.of(1, 0, 1, 0), 2, Float32Array.of(1, 1), 1)).rejects.toMatchObject({
      code: 'TRIANGULAR_SINGULAR',
    });
    await expect(solveTriangular(backend, Float32Array.of(1), 2, Float32Array.of(1, 1), 1)).rejects.toMatchObject({ code: 'SHAPE_DATA' });
  });
});
