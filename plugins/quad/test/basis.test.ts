// Second moments of the residual stream against a float64 forward pass, and the directions that are chosen from them.
import { type Backend, createRng, type Model, read, type TokenBatches, tensor } from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type BasisKind, outlierBasis } from '../src/basis/basis.js';
import { residualGrams } from '../src/basis/gram.js';
import { energyCaptured, type GramSite, type ResidualGram, reflections, residualGram, rotate } from '../src/index.js';
import { createBackend, type SmallModel, smallConfig, smallModel, tokensFor } from './llama.js';
import {
  at,
  forward,
  identity,
  largestDifference,
  largestGap,
  type Matrix,
  matrix,
  multiply,
  normalized,
  originalNetwork,
  transposed,
} from './oracle.js';

let backend: Backend;
let small: SmallModel;
beforeAll(async () => {
  backend = await createBackend();
  small = await smallModel(smallConfig);
});
afterAll(() => backend.dispose());

const width = smallConfig.hidden_size;
const WINDOWS = 6;
const calibration = tokensFor(smallConfig);

interface Sums {
  readonly windows?: number;
  readonly site?: GramSite;
  readonly asReference?: boolean;
  readonly tokens?: TokenBatches;
  readonly model?: Model;
}

const gramOf = ({
  windows = WINDOWS,
  site = 'pre',
  asReference = false,
  tokens = calibration,
  model = small.model,
}: Sums = {}): Promise<ResidualGram> => residualGram(model, { backend, calibration: tokens, windows, site, asReference });
const asMatrix = (gram: ResidualGram): Matrix => ({ rows: gram.width, columns: gram.width, values: gram.matrix });

/** All windows, each a list of tokens. */
async function windowsOf(tokens: TokenBatches): Promise<Int32Array[]> {
  const windows: Int32Array[] = [];
  for (let i = 0; i < tokens.length; i++) {
    const batch = await tokens.at(i);
    const values = (await read(batch)) as Int32Array;
    for (let w = 0; w < batch.shape[0]; w++) windows.push(values.subarray(w * batch.shape[1], (w + 1) * batch.shape[1]));
  }
  return windows;
}

/** The same windows in batches of another size. */
async function rebatched(tokens: TokenBatches, size: number, from = 0, to = Infinity): Promise<TokenBatches> {
  const windows = (await windowsOf(tokens)).slice(from, to);
  const batches = Array.from({ length: windows.length / size }, (_, b) => {
    const values = windows.slice(b * size, (b + 1) * size).flatMap((window) => [...window]);
    return tensor(Int32Array.from(values), [size, windows[0].length]);
  });
  return { length: batches.length, hash: '', description: '', at: async (i) => batches[i] };
}

/** Σ xᵀx in float64, site by site: [layer 0 attention, layer 0 mlp, layer 1 attention, …]. */
async function expectedSums(site: GramSite, windows = WINDOWS, config = smallConfig): Promise<Matrix[]> {
  const network = originalNetwork(config, small.weights);
  const sums: Matrix[] = Array.from({ length: 2 * config.num_hidden_layers }, () => matrix(width, width, () => 0));
  for (const window of (await windowsOf(calibration)).slice(0, windows)) {
    let norm = 0;
    forward(network, window, (stream) => {
      const { values } = sums[norm++];
      for (const raw of stream) {
        const x = site === 'pre' ? raw : normalized(raw, config, undefined);
        for (let i = 0; i < width; i++) for (let j = 0; j < width; j++) values[i * width + j] += x[i] * x[j];
      }
    });
  }
  return sums;
}

const added = (sums: readonly Matrix[], weights = sums.map(() => 1)): Matrix =>
  matrix(width, width, (i, j) => sums.reduce((total, one, k) => total + weights[k] * at(one, i, j), 0));
const relative = (actual: Matrix, expected: Matrix): number =>
  largestDifference(actual, expected) / expected.values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

describe('residualGram', () => {
  it.each(['pre', 'post'] as const)("is the sum over all norms of all blocks, site '%s'", async (site) => {
    const gram = await gramOf({ site });
    expect(gram.tokens).toBe(60);
    expect(relative(asMatrix(gram), added(await expectedSums(site)))).toBeLessThan(1e-6);
  });

  it('is the same for both sites in one pass', async () => {
    const both = await residualGrams(small.model, ['pre', 'post'], { backend, calibration, windows: WINDOWS, asReference: true });
    for (const site of ['pre', 'post'] as const) {
      expect(relative(asMatrix(both[site]), asMatrix(await gramOf({ site, asReference: true })))).toBeLessThan(1e-6);
      expect(both[site].tokens).toBe(60);
    }
  });

  it('uses as many windows as asked, batches or not', async () => {
    const gram = await gramOf({ windows: 3 });
    expect(gram.tokens).toBe(30);
    expect(relative(asMatrix(gram), added(await expectedSums('pre', 3)))).toBeLessThan(1e-6);
    expect((await gramOf({ windows: 100 })).tokens).toBe(60);
  });

  it('is the same for any batches, and that of a union is the sum', async () => {
    const whole = asMatrix(await gramOf());
    for (const size of [1, 3, 6]) {
      const tokens = await rebatched(calibration, size);
      expect(relative(asMatrix(await gramOf({ tokens })), whole)).toBeLessThan(1e-6);
    }
    const first = asMatrix(await gramOf({ tokens: await rebatched(calibration, 2, 0, 2) }));
    const second = asMatrix(await gramOf({ tokens: await rebatched(calibration, 2, 2, 6) }));
    expect(relative(added([first, second]), whole)).toBeLessThan(1e-6);
  });

  it('as the published code has it: the first norm counts as one token, and epsilon is 1e-5', async () => {
    const config = { ...smallConfig, rms_norm_eps: 0.3 };
    const { model } = await smallModel(config);
    const sums = await expectedSums('pre');
    const expected = added(sums, [1 / 60, 1, 1, 1]);
    expect(relative(asMatrix(await gramOf({ model, asReference: true })), expected)).toBeLessThan(1e-6);
    expect(relative(asMatrix(await gramOf({ model })), expected)).toBeGreaterThan(1e-3);
  });

  it('reads each block once, and one after the other', async () => {
    const reads: string[] = [];
    const { model } = await smallModel(smallConfig, (name) => reads.push(name));
    await gramOf({ model });
    const layers = reads.flatMap((name) => /layers\.(\d+)\./.exec(name)?.[1] ?? []).map(Number);
    expect(layers).toEqual([...layers].sort());
    expect(new Set(reads).size).toBe(reads.length);
  });

  it('asks for data', async () => {
    const tokens = { ...calibration, length: 0 };
    await expect(gramOf({ tokens })).rejects.toMatchObject({ code: 'CALIBRATION_EMPTY' });
  });
});

describe('outlierBasis', () => {
  const columns = async (kind: BasisKind, rank: number, gram: ResidualGram): Promise<Float64Array> =>
    reflections((await outlierBasis({ backend, kind, width, rank, gram, rng: createRng(9) })).columns, width, rank).basis;
  const energyOf = async (kind: BasisKind, rank: number, gram: ResidualGram): Promise<Float64Array> =>
    energyCaptured(gram, await columns(kind, rank, gram), rank);

  it.each(['svd', 'channels', 'random', 'bottom'] as const)("'%s': orthonormal, and its energy is what is not left over", async (kind) => {
    const gram = await gramOf();
    for (const rank of [1, 5, 16, width]) {
      const basis = await columns(kind, rank, gram);
      const p = { rows: width, columns: rank, values: basis };
      expect(largestDifference(multiply(transposed(p), p), identity(rank))).toBeLessThan(1e-13);
      const energy = energyCaptured(gram, basis, rank);
      expect(energy.every((share, i) => share >= (energy[i - 1] ?? 0) && share <= 1)).toBe(true);
      // ‖X (I − P Pᵀ)‖² = tr((I − P Pᵀ) G).
      const projector = multiply(p, transposed(p));
      const left = multiply(
        matrix(width, width, (i, j) => (i === j ? 1 : 0) - at(projector, i, j)),
        asMatrix(gram),
      );
      const trace = (a: Matrix): number => Array.from({ length: width }, (_, i) => at(a, i, i)).reduce((x, y) => x + y, 0);
      expect(energy[rank - 1]).toBeCloseTo(1 - trace(left) / trace(asMatrix(gram)), 10);
    }
  });

  it("'svd' holds more than any other choice, 'bottom' less", async () => {
    const gram = await gramOf();
    for (const rank of [1, 4, 9]) {
      const [svd, channels, random, bottom] = await Promise.all(
        (['svd', 'channels', 'random', 'bottom'] as const).map(async (kind) => (await energyOf(kind, rank, gram))[rank - 1]),
      );
      expect(svd).toBeGreaterThan(channels);
      expect(channels).toBeGreaterThan(random);
      expect(random).toBeGreaterThan(bottom);
    }
  });

  it('finds the same energies in a rotated model', async () => {
    const recipe = [rotate({ activationBits: 16, outputActivationBits: 16, dtype: 'float32' })];
    const { model } = await quantize({ model: small.model, backend, recipe, seed: 1 });
    const [before, after] = [await energyOf('svd', 8, await gramOf()), await energyOf('svd', 8, await gramOf({ model }))];
    expect(largestGap(after, before)).toBeLessThan(1e-5);
  });

  it("refuses 'bottom' for a wide stream", async () => {
    const gram = { width: 1025, matrix: new Float64Array(1), tokens: 1 };
    await expect(outlierBasis({ backend, kind: 'bottom', width: 1025, rank: 1, gram, rng: createRng(1) })).rejects.toMatchObject({
      code: 'BASIS_SIZE',
    });
  });
});
