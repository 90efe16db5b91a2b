// Closed-form corrections: their optimality, the cases in which they coincide, and statistics that say little.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng, energy, gram, peakMeanMagnitude, type Tensor, tensor } from '@lowbit/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  bestCorrection,
  type ClosedFormName,
  type Correction,
  closedForms,
  energyRoot,
  gramRoot,
  identityRoot,
  magnitudeRoot,
} from '../src/index.js';
import {
  correlatedInputs,
  deltaOf,
  distance,
  eigen,
  eora,
  gramError,
  gramOf,
  multiply,
  norm,
  qeraExact,
  type Rows,
  random,
  scaleColumns,
  subtract,
  toRows,
  transpose,
  truncated,
} from './corrections-oracle.js';

const backend = createReferenceBackend();
const rng = createRng(3);
const names = Object.keys(closedForms) as ClosedFormName[];

interface Case {
  readonly out: number;
  readonly n: number;
  readonly x: Float32Array;
  readonly error: Float32Array;
}

function caseOf(out: number, n: number, seed: number, rows = 3 * n, dead: readonly number[] = []): Case {
  return { out, n, x: correlatedInputs(rows, n, seed, dead), error: random(out, n, seed + 7) };
}

async function statsOf({ x, n }: Case): Promise<Record<string, Tensor>> {
  const inputs = tensor(x, [x.length / n, n]);
  const [g, squares, magnitudes] = await backend.evaluate([gram.of(inputs), energy.of(inputs), peakMeanMagnitude.of(inputs)]);
  return { gram: g, energy: squares, peakMeanMagnitude: magnitudes };
}

async function correct(one: Case, name: ClosedFormName, rank: number): Promise<Correction> {
  const root = await closedForms[name].root(backend, await statsOf(one));
  return bestCorrection(backend, one.error, [one.out, one.n], root, { rank, rng });
}

function allFinite({ up, down, before, after }: Correction): boolean {
  return [...up, ...down, before, after].every(Number.isFinite);
}

const sizes = {
  out: fc.integer({ min: 1, max: 14 }),
  n: fc.integer({ min: 2, max: 14 }),
  share: fc.double({ min: 0, max: 1, noNaN: true }),
};
const rankOf = (out: number, n: number, share: number): number => 1 + Math.floor(share * (Math.min(out, n) - 1));

describe('bestCorrection', () => {
  it('reaches the least error of its rank: the eigenvalues of E G Eᵀ that are left', async () => {
    await fc.assert(
      fc.asyncProperty(sizes.out, sizes.n, sizes.share, fc.nat(), async (out, n, share, seed) => {
        const one = caseOf(out, n, seed);
        const rank = rankOf(out, n, share);
        const [e, g] = [toRows(one.error, n), gramOf(one.x, n)];
        const { values } = eigen(multiply(multiply(e, g), transpose(e)));
        const least = Math.sqrt(values.slice(rank).reduce((total, value) => total + Math.max(0, value), 0));
        const found = await correct(one, 'qera-exact', rank);
        const reached = Math.sqrt(gramError(subtract(e, deltaOf(found, n)), g));
        expect(found.before).toBeCloseTo(Math.sqrt(gramError(e, g)), 3);
        expect(Math.abs(found.after - reached)).toBeLessThan(1e-5 * found.before);
        expect(reached - least).toBeLessThan(1e-5 * found.before);
      }),
      { numRuns: 40 },
    );
  });

  it('removes almost all that its rank can when far below full rank, of the flattest spectrum', async () => {
    const [n, rank] = [96, 8];
    const error = random(n, n, 17);
    const e = toRows(error, n);
    const { values } = eigen(multiply(e, transpose(e)));
    const sum = (part: number[]): number => part.reduce((total, value) => total + value, 0);
    const found = await bestCorrection(backend, error, [n, n], identityRoot, { rank, rng });
    expect((found.before ** 2 - found.after ** 2) / sum(values.slice(0, rank))).toBeGreaterThan(0.998); // 0.9994 measured
  });

  it('exact: an input thousands of times as large as the others leaves them their share', async () => {
    const [out, n, rank] = [40, 48, 6];
    const x = correlatedInputs(200, n, 18).map((value, at) => (at % n === 5 ? 3000 * value : value));
    const error = random(out, n, 19);
    const [e, g] = [toRows(error, n), gramOf(x, n)];
    const least = eigen(multiply(multiply(e, g), transpose(e))).values.slice(rank);
    const root = await gramRoot(backend, Float32Array.from(g.flat()), n);
    const found = await bestCorrection(backend, error, [out, n], root, { rank, rng });
    const reached = gramError(subtract(e, deltaOf(found, n)), g) / least.reduce((total, value) => total + value, 0);
    expect(reached).toBeLessThan(1.000001); // 1.000000001 measured
  });

  it('exact: no other correction and no subspace of its rank has a smaller output error', async () => {
    await fc.assert(
      fc.asyncProperty(sizes.out, sizes.n, sizes.share, fc.nat(), async (out, n, share, seed) => {
        const one = caseOf(out, n, seed);
        const rank = rankOf(out, n, share);
        const [e, g] = [toRows(one.error, n), gramOf(one.x, n)];
        const errorOf = (delta: Rows): number => gramError(subtract(e, delta), g);
        const exact = await correct(one, 'qera-exact', rank);
        const others: Rows[] = [];
        for (const name of ['svd', 'l2qer', 'qera-approx'] as const) others.push(deltaOf(await correct(one, name, rank), n));
        for (let k = 0; k < 6; k++) {
          // The best that a random column space can do, and the optimum with both factors disturbed.
          const basis = truncated(toRows(random(out, rank, seed + k), rank), rank);
          const inverse = eigen(multiply(transpose(basis), basis));
          const projector = multiply(
            scaleColumns(
              multiply(basis, inverse.vectors),
              inverse.values.map((value) => 1 / value),
            ),
            transpose(multiply(basis, inverse.vectors)),
          );
          others.push(multiply(projector, e));
          const disturbed = (values: Float32Array, at: number): Float32Array => {
            const noise = random(values.length, 1, seed + 31 * at + k);
            return values.map((value, i) => value + 0.05 * noise[i]);
          };
          others.push(deltaOf({ up: disturbed(exact.up, 1), down: disturbed(exact.down, 2) }, n));
        }
        const least = errorOf(deltaOf(exact, n));
        for (const other of others) expect(least).toBeLessThanOrEqual(errorOf(other) * (1 + 1e-5) + 1e-10 * gramError(e, g));
      }),
      { numRuns: 30 },
    );
  });

  it('svd: no subspace and no other correction has a smaller Frobenius error', async () => {
    await fc.assert(
      fc.asyncProperty(sizes.out, sizes.n, sizes.share, fc.nat(), async (out, n, share, seed) => {
        const one = caseOf(out, n, seed);
        const rank = rankOf(out, n, share);
        const e = toRows(one.error, n);
        const least = norm(subtract(e, deltaOf(await correct(one, 'svd', rank), n)));
        expect(least).toBeLessThanOrEqual(norm(subtract(e, truncated(e, rank))) + 1e-6 * norm(e));
        for (const name of ['l2qer', 'qera-approx', 'qera-exact'] as const) {
          expect(least).toBeLessThanOrEqual(norm(subtract(e, deltaOf(await correct(one, name, rank), n))) + 1e-6 * norm(e));
        }
      }),
      { numRuns: 30 },
    );
  });

  it.each([
    [12, 9, 3],
    [9, 12, 4],
    [16, 16, 1],
  ])('%i×%i, rank %i: the formulas of the papers, which invert the root', async (out, n, rank) => {
    const one = caseOf(out, n, 5);
    const [e, g] = [toRows(one.error, n), gramOf(one.x, n)];
    const roots = g.map((row, i) => Math.sqrt(row[i]));
    const magnitudes = transpose(toRows(one.x, n)).map((column) => column.reduce((total, v) => total + Math.abs(v), 0) / column.length);
    const scaled = (s: number[]): Rows =>
      scaleColumns(
        truncated(scaleColumns(e, s), rank),
        s.map((value) => 1 / value),
      );
    const expected: Record<ClosedFormName, Rows> = {
      svd: truncated(e, rank),
      l2qer: scaled(magnitudes),
      'qera-approx': scaled(roots),
      'qera-exact': qeraExact(e, g, rank),
      eora: eora(e, g, rank),
    };
    expect(distance(expected.eora, expected['qera-exact'])).toBeLessThan(1e-9);
    for (const name of names) expect(distance(deltaOf(await correct(one, name, rank), n), expected[name])).toBeLessThan(2e-6);
    expect(await correct(one, 'eora', rank)).toEqual(await correct(one, 'qera-exact', rank));
  });

  it('exact is svd for uncorrelated inputs of one size, and approx for uncorrelated inputs', async () => {
    const [out, n, rank] = [12, 10, 4];
    const error = random(out, n, 1);
    const sized = createRng(2)
      .uniform(n)
      .map((value) => 0.1 + value);
    const diagonal = (values: Float32Array): Float32Array =>
      Float32Array.from({ length: n * n }, (_, at) => (at % (n + 1) === 0 ? values[at / (n + 1)] : 0));
    const options = { rank, rng };
    const run = async (root: Parameters<typeof bestCorrection>[3]): Promise<Rows> =>
      deltaOf(await bestCorrection(backend, error, [out, n], root, options), n);
    const exactOfEqual = await run(await gramRoot(backend, diagonal(new Float32Array(n).fill(37)), n));
    expect(distance(exactOfEqual, await run(identityRoot))).toBeLessThan(1e-5);
    const exactOfDiagonal = await run(await gramRoot(backend, diagonal(sized), n));
    expect(distance(exactOfDiagonal, await run(energyRoot(sized)))).toBeLessThan(1e-5);
    expect(distance(exactOfDiagonal, await run(identityRoot))).toBeGreaterThan(0.05);
  });

  it.each([1e-8, 1 / 3, 1e9])('does not change with a Gram matrix %d times as large', async (factor) => {
    const one = caseOf(11, 13, 9);
    const g = Float32Array.from(gramOf(one.x, 13).flat());
    const options = { rank: 4, rng };
    const run = async (values: Float32Array): Promise<Correction> =>
      bestCorrection(backend, one.error, [11, 13], await gramRoot(backend, values, 13), options);
    const [plain, scaled] = [await run(g), await run(g.map((value) => value * factor))];
    expect(distance(deltaOf(scaled, 13), deltaOf(plain, 13))).toBeLessThan(1e-4);
    expect(scaled.after / scaled.before).toBeCloseTo(plain.after / plain.before, 5);
  });

  it.each(names)('%s at full rank recovers the error', async (name) => {
    for (const [out, n] of [
      [9, 14],
      [14, 9],
      [1, 6],
      [6, 1],
    ]) {
      const one = caseOf(out, n, 21);
      const found = await correct(one, name, Math.min(out, n));
      expect(distance(deltaOf(found, n), toRows(one.error, n))).toBeLessThan(1e-5);
      expect(found.after).toBeLessThan(1e-5 * found.before);
    }
  });
});

describe('poor statistics', () => {
  const cases: [string, Case][] = [
    ['dead inputs', caseOf(8, 10, 60, 40, [0, 4, 9])],
    ['fewer rows than inputs', caseOf(8, 10, 61, 6)],
    ['one row', caseOf(8, 10, 62, 1)],
    ['no signal at all', caseOf(8, 10, 63, 4, [...Array(10).keys()])],
    ['one output', caseOf(1, 10, 64)],
    ['one input', caseOf(8, 1, 65)],
    ['no error', { ...caseOf(8, 10, 66), error: new Float32Array(80) }],
  ];
  it.each(cases)('%s: finite, and never worse than no correction', async (_, one) => {
    const [e, g] = [toRows(one.error, one.n), gramOf(one.x, one.n)];
    for (const name of names) {
      for (const rank of new Set([1, Math.min(2, one.out, one.n), Math.min(one.out, one.n)])) {
        const found = await correct(one, name, rank);
        expect(allFinite(found)).toBe(true);
        expect(found.after).toBeLessThanOrEqual(found.before);
        expect(gramError(subtract(e, deltaOf(found, one.n)), g)).toBeLessThanOrEqual(gramError(e, g) * (1 + 1e-6));
      }
    }
  });

  it('exact removes the whole output error where the inputs span no more than its rank', async () => {
    const one = caseOf(8, 10, 67, 3);
    const found = await correct(one, 'qera-exact', 3);
    const [e, g] = [toRows(one.error, 10), gramOf(one.x, 10)];
    expect(gramError(subtract(e, deltaOf(found, 10)), g)).toBeLessThan(1e-6 * gramError(e, g));
  });
});

describe('roots', () => {
  it('magnitudeRoot holds magnitudes above 1e-4 and centers them', () => {
    const root = magnitudeRoot(Float32Array.of(0, 0.01, 1));
    const center = Math.sqrt(1e-4 * 1);
    expect(root.kind === 'diagonal' && [...root.scales].map((value) => value * center)).toEqual([
      expect.closeTo(1e-4, 9),
      expect.closeTo(0.01, 7),
      expect.closeTo(1, 6),
    ]);
  });

  it('gramRoot reports its dampening', async () => {
    const regular = Float32Array.of(2, 1, 1, 2);
    expect(await gramRoot(backend, regular, 2)).toMatchObject({ dampening: 0 });
    expect(await gramRoot(backend, regular, 2, 0.01)).toMatchObject({ dampening: 0.01 });
    expect(await closedForms['qera-exact'].root(backend, { gram: tensor(regular, [2, 2]) }, 0.5)).toMatchObject({ dampening: 0.5 });
    const singular = await gramRoot(backend, Float32Array.of(1, 1, 1, 1), 2);
    expect(singular.kind === 'triangular' && singular.dampening > 0).toBe(true);
  });

  it('refuses statistics that are none', async () => {
    expect(() => magnitudeRoot(Float32Array.of(1, Number.NaN))).toThrow(/ROOT_INPUT: magnitudeRoot: input 1/);
    expect(() => energyRoot(Float32Array.of(-1))).toThrow(/ROOT_INPUT/);
    await expect(gramRoot(backend, new Float32Array(3), 2)).rejects.toMatchObject({ code: 'SHAPE_DATA' });
  });
});

it('refuses what does not fit', async () => {
  const error = new Float32Array(12);
  const options = { rank: 2, rng };
  await expect(bestCorrection(backend, error, [3, 5], identityRoot, options)).rejects.toMatchObject({ code: 'SHAPE_WEIGHT' });
  await expect(bestCorrection(backend, error, [3, 4], energyRoot(new Float32Array(3)), options)).rejects.toMatchObject({
    code: 'SHAPE_ROOT',
  });
  await expect(bestCorrection(backend, error, [3, 4], identityRoot, { rank: 4, rng })).rejects.toMatchObject({ code: 'SVD_RANK' });
});
