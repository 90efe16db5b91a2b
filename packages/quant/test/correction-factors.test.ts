// The factors of a correction: γ · up · down = Δ, split in one way whatever found them, and the start that corrects nothing.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng, DenseLinear, readFloats, tensor } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { bestCorrection, type Correction, gramRoot, identityRoot, LowRankLinear, zeroFactors } from '../src/index.js';
import { correlatedInputs, deltaOf, distance, gramOf, random, toRows, transpose } from './corrections-oracle.js';

const backend = createReferenceBackend();
const rng = createRng(3);

describe('factors', () => {
  it.each([1, 0.25, 4, -2])('γ = %d: γ · up · down is the same correction, split evenly, with one choice of signs', async (scaling) => {
    const error = random(12, 10, 37);
    const root = await gramRoot(backend, Float32Array.from(gramOf(correlatedInputs(30, 10, 30), 10).flat()), 10);
    const split = async (gamma?: number): Promise<Correction> =>
      bestCorrection(backend, error, [12, 10], root, { rank: 4, rng, ...(gamma !== undefined && { scaling: gamma }) });
    const [plain, found] = [await split(), await split(scaling)];
    expect(distance(deltaOf(found, 10, scaling), deltaOf(plain, 10))).toBeLessThan(1e-6);
    const columns = transpose(toRows(found.up, 4));
    const rows = toRows(found.down, 10);
    const lengths = columns.map((column) => Math.hypot(...column));
    for (const [k, column] of columns.entries()) {
      expect(Math.hypot(...rows[k]) / lengths[k]).toBeCloseTo(1, 5);
      expect(column.reduce((peak, value) => (Math.abs(value) > Math.abs(peak) ? value : peak), 0)).toBeGreaterThan(0);
      if (k > 0) expect(lengths[k]).toBeLessThanOrEqual(lengths[k - 1]);
      // Both sides are orthogonal: the split is the singular value decomposition of Δ.
      for (const other of columns.slice(0, k)) expect(Math.abs(column.reduce((t, v, i) => t + v * other[i], 0))).toBeLessThan(1e-4);
      for (const other of rows.slice(0, k)) expect(Math.abs(rows[k].reduce((t, v, i) => t + v * other[i], 0))).toBeLessThan(1e-4);
    }
  });

  it('correct a LowRankLinear of the same scaling: at full rank it has the dense weight', async () => {
    const [out, n, scaling] = [6, 8, 0.25];
    const dense = random(out, n, 40);
    const base = dense.map((value) => Math.round(value * 2) / 2);
    const error = dense.map((value, i) => value - base[i]);
    const { up, down } = await bestCorrection(backend, error, [out, n], identityRoot, { rank: out, rng, scaling });
    const linear = new LowRankLinear({
      base: new DenseLinear(tensor(base, [out, n])),
      up: tensor(up, [out, out]),
      down: tensor(down, [out, n]),
      scaling,
    });
    const [weight] = await backend.evaluate([linear.effectiveWeight()]);
    for (const [i, value] of (await readFloats(weight)).entries()) expect(value).toBeCloseTo(dense[i], 5);
  });

  it('repeat themselves, and hardly depend on the draw', async () => {
    const error = random(12, 10, 57);
    const options = { rank: 3, rng };
    const first = await bestCorrection(backend, error, [12, 10], identityRoot, options);
    expect(await bestCorrection(backend, error, [12, 10], identityRoot, options)).toEqual(first);
    const other = await bestCorrection(backend, error, [12, 10], identityRoot, { rank: 3, rng: createRng(99) });
    expect(distance(toRows(other.up, 3), toRows(first.up, 3))).toBeLessThan(1e-3);
  });
});

describe('zeroFactors', () => {
  it('leaves the base bit for bit, and draws within 1/√in', async () => {
    const { up, down } = zeroFactors([6, 64], 4, rng);
    expect(up).toEqual(new Float32Array(24));
    expect(Math.max(...down.map(Math.abs))).toBeLessThanOrEqual(1 / 8);
    expect(down.reduce((total, value) => total + value * value, 0) / down.length).toBeCloseTo(1 / 64 / 3, 3);
    expect(zeroFactors([6, 64], 4, rng).down).toEqual(down);
    const base = new DenseLinear(tensor(random(6, 64, 70), [6, 64]));
    const linear = new LowRankLinear({ base, up: tensor(up, [6, 4]), down: tensor(down, [4, 64]), scaling: 4 });
    const x = tensor(random(5, 64, 71), [5, 64]);
    const [corrected, plain] = await backend.evaluate([linear.forward(x), base.forward(x)]);
    expect(await readFloats(corrected)).toEqual(await readFloats(plain));
  });
});

it('refuses what is no scaling and no rank', async () => {
  for (const scaling of [0, Number.NaN]) {
    await expect(bestCorrection(backend, new Float32Array(12), [3, 4], identityRoot, { rank: 2, rng, scaling })).rejects.toMatchObject({
      code: 'CORRECTION_SCALING',
    });
  }
  expect(() => zeroFactors([3, 4], 0, rng)).toThrow(/CORRECTION_RANK/);
});
