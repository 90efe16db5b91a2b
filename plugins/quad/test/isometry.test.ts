// The isometry: reflections, both layouts, rotations of an axis, against dense matrices in float64.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng, tensor } from '@lowbit/core';
import { planHadamard } from '@lowbit/linalg';
import { rotateFeatures } from '@lowbit/quant';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Isometry, type Layout, reflections } from '../src/index.js';
import { hadamardAxis, hadamardOrFallback, noRotation, onlineRotation, randomAxis } from '../src/isometry/axis-rotation.js';
import { smallConfig } from './llama.js';
import {
  at,
  columnsOf,
  identity,
  isometryMatrix,
  largestDifference,
  largestGap,
  type Matrix,
  matrix,
  multiply,
  normalized,
  rotationMatrix,
  transposed,
} from './oracle.js';

const backend = createReferenceBackend();
const rng = createRng(2);

/** Orthonormal columns but for float32 rounding, as an eigensolver gives them. */
function roughlyOrthonormal(width: number, rank: number, seed: number): Float32Array {
  const { basis } = reflections(createRng(seed).normal(width * rank), width, rank);
  return Float32Array.from(basis);
}

async function isometry(layout: Layout, width: number, rank: number, seed = 4): Promise<Isometry> {
  const rest = layout === 'compact' ? width - rank : width;
  const request = { backend, fallback: 'block-diagonal', hasSigns: true } as const;
  const rotation = await hadamardOrFallback(rest, { ...request, rng: rng.at('rest') });
  if (rank === 0) return new Isometry({ layout, width, outliers: undefined, rotation });
  const outliers = {
    reflections: reflections(roughlyOrthonormal(width, rank, seed), width, rank),
    rotation: await hadamardOrFallback(rank, { ...request, rng: rng.at('outliers') }),
  };
  return new Isometry({ layout, width, outliers, rotation });
}

const dense = (one: Isometry): Matrix => isometryMatrix({ isometry: one } as Parameters<typeof isometryMatrix>[0]);
const random = (rows: number, columns: number): Matrix => {
  const values = rng.at('random', rows, columns).normal(rows * columns);
  return { rows, columns, values: Float64Array.from(values) };
};
const leaf = ({ values, rows, columns }: Matrix) => tensor(Float32Array.from(values), [rows, columns]);
const trace = (a: Matrix): number => Array.from({ length: a.rows }, (_, i) => at(a, i, i)).reduce((x, y) => x + y, 0);

/** Widths, and a rank up to the width. */
const sizes = fc
  .integer({ min: 1, max: 20 })
  .chain((width) => fc.tuple(fc.constant(width), fc.integer({ min: 1, max: width }), fc.nat(1000)));

describe('reflections', () => {
  it('gives the columns it was given, orthonormal to float64, and an orthogonal matrix that begins with them', () => {
    fc.assert(
      fc.property(sizes, ([width, rank, seed]) => {
        const given = roughlyOrthonormal(width, rank, seed);
        const { basis, reflectors, scaled } = reflections(given, width, rank);
        const of = (values: Float64Array): Matrix => ({ rows: width, columns: rank, values });
        const p = of(basis);
        expect(largestDifference(multiply(transposed(p), p), identity(rank))).toBeLessThan(1e-13);
        expect(largestGap(basis, given)).toBeLessThan(1e-6);
        const turned = multiply(of(scaled), transposed(of(reflectors)));
        const q = matrix(width, width, (i, j) => (i === j ? 1 : 0) - at(turned, i, j));
        expect(largestDifference(multiply(q, transposed(q)), identity(width))).toBeLessThan(1e-13);
        const signOf = (j: number): number => Math.sign(at(multiply(transposed(p), q), j, j));
        expect(
          largestDifference(
            columnsOf(q, 0, rank),
            matrix(width, rank, (i, j) => at(p, i, j) * signOf(j)),
          ),
        ).toBeLessThan(1e-13);
      }),
      { numRuns: 60 },
    );
  });

  it('is exact for unit vectors', () => {
    const { basis } = reflections(Float32Array.of(0, 0, 1, 0, 0, 1), 3, 2);
    expect([...basis].map((value) => Math.round(value * 1e12) / 1e12 + 0)).toEqual([0, 0, 1, 0, 0, 1]);
  });
});

describe.each([
  ['expand', 12, 0],
  ['expand', 12, 5],
  ['expand', 24, 24],
  ['compact', 24, 4],
  ['compact', 20, 19],
] as const)("Isometry, layout '%s', width %i, rank %i", (layout, width, rank) => {
  it('is T with T Tᵀ = I, and its parts are what the formula says', async () => {
    const one = await isometry(layout, width, rank);
    const t = dense(one);
    expect([one.rank, one.residualWidth]).toEqual([rank, layout === 'expand' ? width + rank : width]);
    expect(largestDifference(multiply(t, transposed(t)), identity(width))).toBeLessThan(1e-13);
    // Tᵀ T is a projector of rank d: symmetric, equal to its square, with trace d.
    const projector = multiply(transposed(t), t);
    expect(largestDifference(multiply(projector, projector), projector)).toBeLessThan(1e-13);
    expect(trace(projector)).toBeCloseTo(width, 10);
    const rest = columnsOf(t, rank, t.columns);
    const inRest = multiply(rest, transposed(rest));
    expect(trace(inRest)).toBeCloseTo(width - rank, 10);
    const p = rank > 0 ? { rows: width, columns: rank, values: one.outliers!.reflections.basis } : undefined;
    const left = p ? multiply(p, transposed(p)) : matrix(width, width, () => 0);
    expect(
      largestDifference(
        inRest,
        matrix(width, width, (i, j) => (i === j ? 1 : 0) - at(left, i, j)),
      ),
    ).toBeLessThan(1e-13);
  });

  it('applies T without making it: to rows, columns and vectors', async () => {
    const one = await isometry(layout, width, rank);
    const t = dense(one);
    const [reading, writing, bias] = [random(5, width), random(width, 7), random(1, width)];
    const { outlier, rest } = one.input(leaf(reading));
    const expected = multiply(reading, t);
    const of = async (x: ReturnType<typeof leaf>): Promise<Matrix> => {
      const columns = x.shape[x.rank - 1];
      return { rows: x.size / columns, columns, values: await backend.float64(x) };
    };
    if (outlier) expect(largestDifference(await of(outlier), columnsOf(expected, 0, rank))).toBeLessThan(2e-6);
    expect(outlier === undefined).toBe(rank === 0);
    expect(largestDifference(await of(rest), columnsOf(expected, rank, t.columns))).toBeLessThan(2e-6);
    expect(largestDifference(await of(one.rows(leaf(reading))), expected)).toBeLessThan(2e-6);
    expect(largestDifference(await of(one.output(leaf(writing))), multiply(transposed(t), writing))).toBeLessThan(2e-6);
    const vector = one.vector(tensor(Float32Array.from(bias.values)));
    expect(vector.shape).toEqual([t.columns]);
    expect(largestDifference(await of(vector), multiply(bias, t))).toBeLessThan(2e-6);
  });

  it('keeps norms, so that an RMS norm with divisor d goes through it', async () => {
    const t = dense(await isometry(layout, width, rank));
    const config = { ...smallConfig, hidden_size: width };
    const x = random(1, width);
    const turned = multiply(x, t);
    const before = normalized(x.values, config, undefined);
    const after = normalized(turned.values, config, undefined);
    const expected = multiply({ ...x, values: before }, t);
    expect(largestDifference({ ...turned, values: after }, expected)).toBeLessThan(1e-13);
  });

  it('has the same residual features whatever the signs and the order of the directions', async () => {
    if (rank === 0) return;
    const given = roughlyOrthonormal(width, rank, 4);
    const shuffled = Float32Array.from(given, (_, i) => {
      const [row, column] = [Math.floor(i / rank), i % rank];
      return (column % 2 === 0 ? -1 : 1) * given[row * rank + (rank - 1 - column)];
    });
    const one = await isometry('expand', width, rank);
    const outliers = { reflections: reflections(shuffled, width, rank), rotation: noRotation(rank) };
    const other = new Isometry({ layout: 'expand', width, outliers, rotation: one.rotation });
    const x = leaf(random(3, width));
    const [a, b] = [await backend.float64(one.input(x).rest), await backend.float64(other.input(x).rest)];
    expect(largestGap(a, b)).toBeLessThan(1e-6);
  });
});

describe('rotations of an axis', () => {
  const request = { backend, fallback: 'block-diagonal', rng: rng.at('axis') } as const;

  it.each([1, 2, 12, 14, 28, 38, 40, 64])('size %i: over any axis, the matrix that its plan and signs say', async (size) => {
    const rotation = await hadamardOrFallback(size, { ...request, hasSigns: true });
    const r = rotationMatrix(rotation);
    expect(largestDifference(multiply(r, transposed(r)), identity(size))).toBeLessThan(1e-13);
    const x = random(6, size);
    const rows = await backend.float64(rotation.apply(leaf(x), 1));
    expect(largestDifference({ ...x, values: rows }, multiply(x, r))).toBeLessThan(2e-6);
    const middle = tensor(Float32Array.from(x.values), [2, size, 3]);
    const turned = await backend.float64(rotation.apply(middle, 1));
    const expected = Float64Array.from(x.values, (_, i) => {
      const [outer, j, inner] = [Math.floor(i / (3 * size)), Math.floor(i / 3) % size, i % 3];
      let total = 0;
      for (let k = 0; k < size; k++) total += x.values[(outer * size + k) * 3 + inner] * at(r, k, j);
      return total;
    });
    expect(largestGap(turned, expected)).toBeLessThan(2e-6);
  });

  it.each([1, 4, 12, 14, 28, 40])('size %i: the online rotation of heads is the offline one', async (size) => {
    const rotation = await hadamardOrFallback(size, { ...request, hasSigns: false });
    const x = Float32Array.from(random(3, size * 4).values);
    const offline = await backend.float64(rotation.apply(tensor(x, [3, size, 4]), 1));
    const online = await backend.float64(rotateFeatures(tensor(x, [3, size * 4]), onlineRotation(rotation)));
    expect(largestGap(online, offline)).toBeLessThan(1e-6);
  });

  it('draws a random orthogonal matrix where asked', async () => {
    const fallback = await hadamardOrFallback(14, { ...request, fallback: 'random', hasSigns: false });
    const direct = await randomAxis(backend, 14, request.rng.at('matrix'));
    expect(fallback.form).toBe('random');
    expect(fallback.matrix).toEqual(direct.matrix);
    const r = rotationMatrix(fallback);
    expect(largestDifference(multiply(r, transposed(r)), identity(14))).toBeLessThan(1e-5);
    const x = random(2, 14);
    const [offline, online] = [fallback.apply(leaf(x), 1), rotateFeatures(leaf(x), onlineRotation(fallback))];
    expect(await backend.float64(online)).toEqual(await backend.float64(offline));
  });

  it('refuses sizes without a Hadamard matrix where no fallback is allowed', async () => {
    await expect(hadamardOrFallback(14, { ...request, fallback: 'error', hasSigns: false })).rejects.toMatchObject({
      code: 'HADAMARD_SIZE',
    });
    expect(hadamardAxis(planHadamard(12)).form).toBe('hadamard');
  });
});
