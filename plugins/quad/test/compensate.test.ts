// Compensation: the contract, the least-squares optimum, and what it leaves alone.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import {
  add,
  type Backend,
  createRng,
  type Model,
  type Recipe,
  type RunEvent,
  read,
  readFloats,
  readNumber,
  slice,
  type Tensor,
  tensor,
  tensorsOf,
} from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { ActivationQuantizedLinear, linearKinds, QuantizedLinear, quantizeActivations, quantizeWeight, SplitLinear } from '@lowbit/quant';
import { createToyModel, createToyTokens, describeMethod } from '@lowbit/testkit';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { bestColumns, columnSums, errorChange } from '../src/compensate/columns.js';
import { type CompensateInput, compensate, quad, rotate } from '../src/index.js';
import { outlierColumns, perChannel } from './tune-setting.js';

const createBackend = (): Promise<Backend> => createOnnxBackend({ threads: 1, spin: false });
const backend = await createBackend();
afterAll(() => backend.dispose());

for (const activations of ['quantized', 'dense'] as const) {
  describeMethod(compensate, {
    quantize,
    createBackend,
    kinds: linearKinds,
    prepare: [outlierColumns({ rank: 4, bits: 4 }), perChannel(2)],
    options: { activations },
    override: { dampening: 0.9 },
  });
}

type Rows = number[][];
const toRows = (values: ArrayLike<number>, columns: number): Rows =>
  Array.from({ length: values.length / columns }, (_, i) => Array.from({ length: columns }, (_, j) => values[i * columns + j]));
const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((total, x, i) => total + x * b[i], 0);
const column = (rows: Rows, j: number): number[] => rows.map((row) => row[j]);

async function evaluated(t: Tensor): Promise<Rows> {
  const [leaf] = await backend.evaluate([t]);
  return toRows(await readFloats(leaf), t.shape[1]);
}

/** Solves a small system by elimination with pivoting, in float64. */
function solve(matrix: Rows, rhs: readonly number[]): number[] {
  const a = matrix.map((row, i) => [...row, rhs[i]]);
  const size = a.length;
  for (let k = 0; k < size; k++) {
    let pivot = k;
    for (let i = k + 1; i < size; i++) if (Math.abs(a[i][k]) > Math.abs(a[pivot][k])) pivot = i;
    [a[k], a[pivot]] = [a[pivot], a[k]];
    for (let i = k + 1; i < size; i++) {
      const factor = a[i][k] / a[k][k];
      for (let j = k; j <= size; j++) a[i][j] -= factor * a[k][j];
    }
  }
  const x = new Array<number>(size).fill(0);
  for (let k = size - 1; k >= 0; k--) x[k] = (a[k][size] - dot(a[k].slice(k + 1, size), x.slice(k + 1))) / a[k][k];
  return x;
}

const [out, n, rank, tokens] = [6, 12, 3, 80];

/** Inputs of which the outlier ones, the loudest, say something of the others. */
function inputsOf(seed: number): Tensor {
  const rng = createRng(seed);
  const mix = toRows(rng.at('mix').normal(n * n), n);
  const rows = toRows(rng.at('x').normal(tokens * n), n);
  return tensor(
    rows.flatMap((row) => mix.map((m, j) => (j < rank ? 4 : 1) * dot(m, row))),
    [tokens, n],
  );
}

/** A layer of codes with outlier columns, which may round its other inputs, and the dense weight behind it. */
function layerOf(seed: number, bits: number, rounds: boolean): { split: SplitLinear; weight: Tensor } {
  const weight = createRng(seed)
    .at('w')
    .normal(out * n);
  const columns = (from: number, to: number): Float32Array => Float32Array.from(toRows(weight, n).flatMap((row) => row.slice(from, to)));
  const grid = { bits, groupSize: -1, symmetric: true, clip: 'minmax', scaleDtype: 'float16' } as const;
  const bias = tensor(createRng(seed).at('b').normal(out), [out]);
  const codes = new QuantizedLinear(quantizeWeight(columns(rank, n), [out, n - rank], grid), bias);
  const rest = rounds ? new ActivationQuantizedLinear(codes, { bits: 3, clipRatio: 0.9 }) : codes;
  const outlier = tensor(columns(0, rank), [out, rank]);
  return { split: new SplitLinear({ outlier, rest, outlierDtype: 'float32' }), weight: tensor(weight, [out, n]) };
}

describe('the best columns', () => {
  it.each([true, false])('are the least-squares optimum, with the inputs that the quantized weight reads (rounded: %s)', async (rounds) => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(1000),
        fc.integer({ min: 1, max: 4 }),
        fc.double({ min: -1, max: 1, noNaN: true }),
        async (seed, bits, moved) => {
          const [{ split, weight }, input] = [layerOf(seed, bits, rounds), inputsOf(seed)];
          // Wherever the columns are now, they end at the same place.
          const [outlier] = await backend.evaluate([add(split.outlier, moved)]);
          const layer = split.with({ outlier });
          const { products, coupling, error, signal } = columnSums(layer, weight, input);
          const leaves = await backend.evaluate([products, coupling, error, signal]);
          const sums = { products: leaves[0], coupling: leaves[1], error: leaves[2], signal: leaves[3] };
          const solution = await bestColumns(backend, sums, outlier, split.outlier, 0);
          const found = toRows(solution.columns, rank);

          const { rest } = split;
          const [x, w, quantized] = [await evaluated(input), await evaluated(weight), await evaluated(rest.effectiveWeight())];
          const others = slice(input, 1, rank, n);
          const read = await evaluated(rest instanceof ActivationQuantizedLinear ? quantizeActivations(others, rest) : others);
          const free = x.map((row) => row.slice(0, rank));
          // What the columns are to give for each row, and what is wrong with it where they give `columns`.
          const wanted = x.map((row, t) => w.map((weights, o) => dot(row, weights) - dot(read[t], quantized[o])));
          const wrong = (columns: Rows): number =>
            wanted.reduce((total, row, t) => total + row.reduce((sum, y, o) => sum + (y - dot(free[t], columns[o])) ** 2, 0), 0);
          const normal = Array.from({ length: rank }, (_, a) =>
            Array.from({ length: rank }, (_, b) => dot(column(free, a), column(free, b))),
          );
          const best = w.map((_, o) =>
            solve(
              normal,
              Array.from({ length: rank }, (_, a) => dot(column(free, a), column(wanted, o))),
            ),
          );

          const distance = Math.hypot(...best.flat().map((value, i) => value - found.flat()[i]));
          expect(distance / Math.hypot(...best.flat())).toBeLessThan(1e-4);
          const [before, after] = [wrong(await evaluated(outlier)), wrong(best)];
          expect((await readNumber(sums.error)) / before).toBeCloseTo(1, 4);
          const change = await errorChange(backend, sums, outlier, tensor(solution.columns, [out, rank]));
          expect(change / before).toBeCloseTo((after - before) / before, 4);
          const energy = x.reduce((total, row) => total + w.reduce((sum, weights) => sum + dot(row, weights) ** 2, 0), 0);
          expect((await readNumber(sums.signal)) / energy).toBeCloseTo(1, 4);
        },
      ),
      { numRuns: 20 },
    );
  });

  it('come from inputs of fewer directions than there are columns with some dampening', async () => {
    const { split, weight } = layerOf(5, 2, true);
    const row = inputsOf(5);
    const { products, coupling, error, signal } = columnSums(split, weight, slice(row, 0, 0, 1));
    const leaves = await backend.evaluate([products, coupling, error, signal]);
    const sums = { products: leaves[0], coupling: leaves[1], error: leaves[2], signal: leaves[3] };
    const { columns, dampening } = await bestColumns(backend, sums, split.outlier, split.outlier, 0);
    expect(dampening).toBeGreaterThan(0);
    expect(await errorChange(backend, sums, split.outlier, tensor(columns, [out, rank]))).toBeLessThan(0);
  });
});

const dense = createToyModel({ seed: 7, outliers: 2 });
const calibration = createToyTokens({ seed: 1, batchCount: 4, batchSize: 4, tokens: 24 });

interface Outcome {
  readonly model: Model;
  readonly records: readonly Readonly<Record<string, unknown>>[];
  readonly warnings: readonly string[];
}

async function run(recipe: Recipe, given: Model = dense): Promise<Outcome> {
  const records: Readonly<Record<string, unknown>>[] = [];
  const onEvent = (event: RunEvent): void => {
    if (event.type === 'log' && 'linear' in event.record) records.push(event.record);
  };
  const { model, warnings } = await quantize({ model: given, backend, recipe, calibration, seed: 3, onEvent });
  return { model, records, warnings: warnings.map(({ code }) => code) };
}

/** Mean square difference of two models' logits over that of the first one's. */
async function logitError(model: Model, other: Model): Promise<number> {
  const tokens = await createToyTokens({ seed: 2, tokens: 24 }).at(0);
  const [a, b] = await backend.evaluate([model.forward(tokens), other.forward(tokens)]);
  const [x, y] = [await readFloats(a), await readFloats(b)];
  const energy = (values: ArrayLike<number>): number => Array.from(values).reduce((total, value) => total + value ** 2, 0);
  return energy(x.map((value, i) => value - y[i])) / energy(x);
}

async function changedNames(before: Model, after: Model): Promise<string[]> {
  const now = tensorsOf(after);
  const changed: string[] = [];
  for (const [name, t] of tensorsOf(before)) {
    const [was, is] = await Promise.all([read(t), read(now.get(name) as Tensor)]);
    if (was.some((x, i) => x !== is[i])) changed.push(name);
  }
  return changed;
}

describe('compensate', () => {
  const base: Recipe = [quad({ rank: 4 }), perChannel(3)];

  it.each([{ activations: 'quantized' }, { activations: 'dense' }] satisfies CompensateInput[])(
    'changes outlier columns alone, and lowers the error of every layer: %o',
    async (options) => {
      const { model: before } = await run(base);
      const { model, records } = await run([...base, compensate(options)]);
      const changed = await changedNames(before, model);
      expect(changed).toHaveLength(10);
      expect(changed.every((name) => name.endsWith('.outlier'))).toBe(true);
      expect(records).toHaveLength(10);
      for (const record of records) {
        expect(record).toMatchObject({ columns: 4, kept: true });
        expect(record['errorAfter']).toBeLessThan(record['errorBefore'] as number);
      }
    },
  );

  it('keeps columns that are as good as the new ones', async () => {
    const { model: once } = await run([...base, compensate()]);
    const { model: twice, records } = await run([...base, compensate(), compensate()]);
    const [first, second] = [records.slice(0, 10), records.slice(10)];
    for (const [i, { errorBefore, errorAfter }] of second.entries()) {
      expect(errorAfter).toBeLessThanOrEqual(errorBefore as number);
      // Blocks before it are the same, so that the first block has nothing to gain.
      if (i < 5) expect((errorBefore as number) / (first[i]['errorAfter'] as number)).toBeCloseTo(1, 5);
    }
    const outliers = ({ linears }: Model['blocks'][number]): Tensor => (linears['self_attn.q_proj'] as SplitLinear).outlier;
    expect(await readFloats(outliers(twice.blocks[0]))).toEqual(await readFloats(outliers(once.blocks[0])));
  });

  it('leaves biases out, in one run and in a run of its own, where the weights are not known any more', async () => {
    const biased = createToyModel({ seed: 7, outliers: 2, biases: true });
    const coarse: Recipe = [quad({ rank: 4, activationBits: 16, outputActivationBits: 16 }), perChannel(2)];
    const [given, together] = [await run(coarse, biased), await run([...coarse, compensate()], biased)];
    expect(together.warnings).not.toContain('REFERENCE_QUANTIZED');
    expect(await logitError(biased, together.model)).toBeLessThan(await logitError(biased, given.model));
    const apart = await run([compensate()], given.model);
    expect(apart.warnings).toEqual(['REFERENCE_QUANTIZED', 'REFERENCE_QUANTIZED']);
    for (const { errorBefore } of apart.records) expect(errorBefore).toBeLessThan(1e-10);
    expect(await logitError(given.model, apart.model)).toBeLessThan(1e-10);

    const rounded = await run(base, biased);
    const fitted = await run([compensate()], rounded.model);
    // Measured: 0.00553 and 0.00569.
    expect(await logitError(biased, fitted.model)).toBeLessThan(1.1 * (await logitError(biased, rounded.model)));
  });

  it('passes over what has no outlier columns, and says so where nothing has', async () => {
    const message = expect.stringMatching(/layers\.0: no targeted Linear has outlier columns; put quad/);
    const split = { code: 'LINEAR_NOT_SPLIT', message };
    await expect(run([rotate(), perChannel(3), compensate()])).rejects.toMatchObject(split);
    await expect(run([...base, compensate({ targets: ['**.down_proj'] })])).rejects.toMatchObject(split);
    const { records } = await run([...base, compensate({ targets: ['**.down_proj', '**.up_proj'] })]);
    expect(records.map(({ linear }) => linear)).toEqual(['mlp.up_proj', 'mlp.up_proj']);
  });
});
