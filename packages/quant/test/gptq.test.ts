import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng } from '@lowbit/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { dequantizeCodes, fitGrid, type Grid, gptqFactor, gptqSolve, roundToGrid } from '../src/index.js';

const backend = createReferenceBackend();

/** XᵀX of correlated inputs, one of them large as in real models. */
function gramOf(n: number, samples: number, seed: number, dead: readonly number[] = []): Float32Array {
  const rng = createRng(seed);
  const z = rng.at('z').normal(samples * n);
  const mix = rng
    .at('mix')
    .normal(n * n)
    .map((value, i) => value + (i % (n + 1) === 0 ? Math.sqrt(n) : 0));
  const x = new Float64Array(samples * n);
  for (let s = 0; s < samples; s++) {
    for (let j = 0; j < n; j++) {
      for (let k = 0; k < n; k++) x[s * n + j] += z[s * n + k] * mix[k * n + j];
      if (j === 1) x[s * n + j] *= 8;
      if (dead.includes(j)) x[s * n + j] = 0;
    }
  }
  const gram = new Float32Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      let total = 0;
      for (let s = 0; s < samples; s++) total += x[s * n + i] * x[s * n + j];
      gram[i * n + j] = total;
    }
  }
  return gram;
}

function gridOf(weight: Float32Array, out: number, n: number, bits: number, groupSize: number): Grid {
  return fitGrid(weight, [out, n], { bits, symmetric: false, scaleDtype: 'float32', groupSize, clip: 'minmax' });
}

/** Gauss-Jordan inverse in float64. */
function invert(matrix: number[][]): number[][] {
  const n = matrix.length;
  const work = matrix.map((row, i) => [...row, ...row.map((_, j) => (i === j ? 1 : 0))]);
  for (let i = 0; i < n; i++) {
    const pivot = work[i][i];
    work[i] = work[i].map((value) => value / pivot);
    for (let k = 0; k < n; k++) {
      const factor = work[k][i];
      if (k !== i) work[k] = work[k].map((value, j) => value - factor * work[i][j]);
    }
  }
  return work.map((row) => row.slice(n));
}

/**
 * The paper's recursion without a factor or blocks: round input i, spread its error over the inputs that are left by
 * w ← w − (w_i − ŵ_i)/[H⁻¹]_ii · [H⁻¹]_i,:, and remove i from H⁻¹ (eq. 2 and 3).
 */
function paperGptq(weight: Float32Array, gram: Float32Array, grid: Grid, dampening: number, order: number[]): Uint8Array {
  const { inFeatures: n, outFeatures: out, groupSize } = grid;
  const mean = order.reduce((total, i) => total + gram[i * (n + 1)], 0) / n;
  let inverse = invert(order.map((i) => order.map((j) => gram[i * n + j] + (i === j ? dampening * mean : 0))));
  const rows = Array.from({ length: out }, (_, r) => order.map((i) => weight[r * n + i]));
  const codes = new Uint8Array(out * n);
  order.forEach((input, step) => {
    rows.forEach((row, r) => {
      const at = r * (n / groupSize) + Math.floor(input / groupSize);
      const exact = (row[step] - grid.offset[at]) / grid.scale[at];
      const floor = Math.floor(exact);
      const tied = exact - floor === 0.5;
      const code = Math.min(2 ** grid.bits - 1, Math.max(0, tied ? floor + (floor % 2) : Math.round(exact)));
      codes[r * n + input] = code;
      const error = (row[step] - (grid.scale[at] * code + grid.offset[at])) / inverse[step][step];
      for (let j = step; j < n; j++) row[j] -= error * inverse[step][j];
    });
    inverse = inverse.map((row, i) => row.map((value, j) => value - (inverse[i][step] * inverse[step][j]) / inverse[step][step]));
  });
  return codes;
}

/** tr((W − Ŵ)H(W − Ŵ)ᵀ) / tr(WHWᵀ) in float64. */
function relativeError(weight: Float32Array, quantized: Float32Array, gram: Float32Array, n: number): number {
  const weighted = (values: Float64Array): number => {
    let total = 0;
    for (let r = 0; r < values.length; r += n) {
      for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) total += values[r + i] * gram[i * n + j] * values[r + j];
    }
    return total;
  };
  return weighted(Float64Array.from(weight, (w, i) => w - quantized[i])) / weighted(Float64Array.from(weight));
}

function agreement(a: Uint8Array, b: Uint8Array): number {
  return a.reduce((total, code, i) => total + (code === b[i] ? 1 : 0), 0) / a.length;
}

describe('gptqSolve', () => {
  it.each([
    [4, 8, false],
    [3, 16, true],
    [2, 8, true],
    [2, 48, false],
  ])('%i bits, groups of %i, actOrder %s: the codes of the paper', async (bits, groupSize, actOrder) => {
    const [out, n] = [13, 48];
    const weight = createRng(1).normal(out * n);
    const gram = gramOf(n, 100, 2);
    const grid = gridOf(weight, out, n, bits, groupSize);
    const order = Array.from({ length: n }, (_, i) => i);
    if (actOrder) order.sort((a, b) => gram[b * (n + 1)] - gram[a * (n + 1)]);
    const expected = paperGptq(weight, gram, grid, 0.01, order);
    const factor = await gptqFactor(backend, gram, n, { actOrder });
    const found = await gptqSolve(backend, factor, weight, grid, { blockSize: 8 });
    // float32 factors against float64: a code may differ where a weight lies on the border of two.
    expect(agreement(found.codes, expected)).toBeGreaterThan(0.99);
    expect(found.relativeError).toBeCloseTo(relativeError(weight, dequantizeCodes(found.codes, grid), gram, n), 5);
    expect(found.relativeError / relativeError(weight, dequantizeCodes(expected, grid), gram, n)).toBeCloseTo(1, 1);
    expect(found.dampening).toBe(0.01);
  });

  it('a diagonal Gram matrix gives round to nearest', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 8 }),
        fc.integer({ min: 1, max: 5 }),
        fc.boolean(),
        fc.nat(),
        async (bits, groups, actOrder, seed) => {
          const n = groups * 4;
          const weight = createRng(seed).normal(6 * n);
          const grid = gridOf(weight, 6, n, bits, 4);
          const gram = new Float32Array(n * n);
          const diagonal = createRng(seed).at('gram').uniform(n);
          for (let i = 0; i < n; i++) gram[i * (n + 1)] = diagonal[i] + 0.01;
          const factor = await gptqFactor(backend, gram, n, { dampening: 0, actOrder });
          expect((await gptqSolve(backend, factor, weight, grid, { blockSize: 3 })).codes).toEqual(roundToGrid(weight, grid));
        },
      ),
      { numRuns: 20 },
    );
  });

  it('does not depend on the block size', async () => {
    const weight = createRng(3).normal(7 * 60);
    const grid = gridOf(weight, 7, 60, 3, 12);
    const factor = await gptqFactor(backend, gramOf(60, 90, 4), 60, { actOrder: true });
    const whole = await gptqSolve(backend, factor, weight, grid, { blockSize: 60 });
    for (const blockSize of [1, 7, 16, 32]) {
      expect(agreement((await gptqSolve(backend, factor, weight, grid, { blockSize })).codes, whole.codes)).toBeGreaterThan(0.99);
    }
  });

  it('weighted error is at most that of round to nearest in 95 % of random layers, and lower on average', async () => {
    let wins = 0;
    let ratios = 0;
    const runs = 40;
    for (let seed = 0; seed < runs; seed++) {
      const bits = 2 + (seed % 3);
      const n = 32;
      const weight = createRng(seed).normal(8 * n);
      const gram = gramOf(n, 20 + 4 * seed, seed + 1000);
      const grid = gridOf(weight, 8, n, bits, 16);
      const factor = await gptqFactor(backend, gram, n, { actOrder: seed % 2 === 1 });
      const nearest = relativeError(weight, dequantizeCodes(roundToGrid(weight, grid), grid), gram, n);
      const { relativeError: found } = await gptqSolve(backend, factor, weight, grid);
      if (found <= nearest) wins++;
      ratios += found / nearest / runs;
    }
    expect(wins).toBeGreaterThanOrEqual(0.95 * runs);
    expect(ratios).toBeLessThan(0.7);
  });

  it('activation order is a permutation: permuting inputs permutes codes, and a constant diagonal leaves the natural order', async () => {
    const n = 24;
    const weight = createRng(5).normal(6 * n);
    const gram = gramOf(n, 60, 6);
    const permutation = createRng(7).permutation(n);
    const permuted = weight.map((_, at) => weight[Math.floor(at / n) * n + permutation[at % n]]);
    const permutedGram = gram.map((_, at) => gram[permutation[Math.floor(at / n)] * n + permutation[at % n]]);
    // One group, so that the grid does not depend on the order of inputs.
    const grid = gridOf(weight, 6, n, 3, n);
    const options = { actOrder: true };
    const plain = await gptqSolve(backend, await gptqFactor(backend, gram, n, options), weight, grid);
    const moved = await gptqSolve(backend, await gptqFactor(backend, permutedGram, n, options), permuted, grid);
    expect(moved.codes).toEqual(plain.codes.map((_, at) => plain.codes[Math.floor(at / n) * n + permutation[at % n]]));

    const level = gram.map((value, at) => value / Math.sqrt(gram[Math.floor(at / n) * (n + 1)] * gram[(at % n) * (n + 1)]));
    for (let i = 0; i < n; i++) level[i * (n + 1)] = 1;
    expect((await gptqFactor(backend, level, n, options)).order).toEqual((await gptqFactor(backend, level, n)).order);
  });

  it('rounds dead inputs to nearest and leaves the others as if they were not there', async () => {
    const [n, dead] = [20, [3, 11, 12]];
    const weight = createRng(8).normal(5 * n);
    const gram = gramOf(n, 60, 9, dead);
    const grid = gridOf(weight, 5, n, 3, n);
    const nearest = roundToGrid(weight, grid);
    const alive = Array.from({ length: n }, (_, i) => i).filter((i) => !dead.includes(i));
    for (const actOrder of [false, true]) {
      const found = await gptqSolve(backend, await gptqFactor(backend, gram, n, { actOrder }), weight, grid);
      expect(found.deadInputs).toBe(3);
      for (let r = 0; r < 5; r++) for (const i of dead) expect(found.codes[r * n + i]).toBe(nearest[r * n + i]);
      const smallGram = Float32Array.from(alive.flatMap((i) => alive.map((j) => gram[i * n + j])));
      const smallWeight = Float32Array.from(
        { length: 5 * alive.length },
        (_, at) => weight[Math.floor(at / alive.length) * n + alive[at % alive.length]],
      );
      const small = await gptqSolve(backend, await gptqFactor(backend, smallGram, alive.length, { actOrder }), smallWeight, {
        ...grid,
        groupSize: alive.length,
      });
      expect(Array.from({ length: 5 }, (_, r) => alive.map((i) => found.codes[r * n + i])).flat()).toEqual([...small.codes]);
      expect(found.relativeError).toBeCloseTo(small.relativeError, 6);
    }
    const silent = await gptqSolve(backend, await gptqFactor(backend, new Float32Array(n * n), n), weight, grid);
    expect(silent.codes).toEqual(nearest);
    expect(silent).toMatchObject({ relativeError: 0, deadInputs: n });
  });

  it('keeps frozen inputs out of the sweep', async () => {
    const [n, frozen] = [20, 4];
    const gram = gramOf(n, 60, 10);
    const weight = createRng(11).normal(5 * n);
    const rest = Float32Array.from({ length: 5 * 16 }, (_, at) => weight[Math.floor(at / 16) * n + frozen + (at % 16)]);
    const restGram = Float32Array.from({ length: 256 }, (_, at) => gram[(frozen + Math.floor(at / 16)) * n + frozen + (at % 16)]);
    const grid = gridOf(rest, 5, 16, 3, 8);
    const found = await gptqSolve(backend, await gptqFactor(backend, gram, n, { frozenInputs: frozen }), weight, grid);
    expect(found).toEqual(await gptqSolve(backend, await gptqFactor(backend, restGram, 16), rest, grid));
  });

  it('reports more dampening for a singular Gram matrix, and takes negative and zero scales', async () => {
    const n = 16;
    const gram = gramOf(n, 3, 12);
    const factor = await gptqFactor(backend, gram, n, { dampening: 0 });
    expect(factor.dampening).toBeGreaterThan(0);
    const weight = createRng(13).normal(4 * n);
    const grid = gridOf(weight, 4, n, 4, 8);
    // Code c on (−s, o + s·15) is code 15 − c on (s, o): the same points.
    const flipped = { ...grid, scale: grid.scale.map((s) => -s), offset: grid.offset.map((o, g) => o + 15 * grid.scale[g]) };
    const plain = await gptqSolve(backend, factor, weight, grid);
    const mirrored = await gptqSolve(backend, factor, weight, flipped);
    expect(
      agreement(
        mirrored.codes.map((code) => 15 - code),
        plain.codes,
      ),
    ).toBeGreaterThan(0.98);
    const constant = await gptqSolve(backend, factor, weight, { ...grid, scale: grid.scale.map(() => 0) });
    expect(constant.codes.every((code) => code === 0)).toBe(true);
    expect(Number.isFinite(constant.relativeError)).toBe(true);
  });

  it('sweeps wide layers in panels', async () => {
    const n = 4;
    const weight = createRng(14).normal(4100 * n);
    const grid = gridOf(weight, 4100, n, 3, n);
    const factor = await gptqFactor(backend, gramOf(n, 12, 15), n);
    const whole = await gptqSolve(backend, factor, weight, grid);
    const tail = { ...grid, scale: grid.scale.slice(4090), offset: grid.offset.slice(4090) };
    expect((await gptqSolve(backend, factor, weight.slice(4090 * n), tail)).codes).toEqual(whole.codes.slice(4090 * n));
  });

  it('refuses what does not fit', async () => {
    const gram = Float32Array.of(1, 0, 0, 1);
    await expect(gptqFactor(backend, gram, 3)).rejects.toMatchObject({ code: 'SHAPE_GRAM' });
    await expect(gptqFactor(backend, gram, 2, { frozenInputs: 2 })).rejects.toMatchObject({ code: 'GPTQ_FROZEN' });
    await expect(gptqFactor(backend, Float32Array.of(1, 0, 0, Number.NaN), 2)).rejects.toMatchObject({ code: 'CHOLESKY_INPUT' });
    const factor = await gptqFactor(backend, gram, 2);
    const grid = { bits: 2, groupSize: 2, scale: Float32Array.of(1), offset: Float32Array.of(0) };
    await expect(gptqSolve(backend, factor, new Float32Array(3), grid)).rejects.toMatchObject({ code: 'SHAPE_WEIGHT' });
    await expect(gptqSolve(backend, factor, new Float32Array(4), grid)).rejects.toMatchObject({ code: 'SHAPE_GROUPS' });
  });
});
