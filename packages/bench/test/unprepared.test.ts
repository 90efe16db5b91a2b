// A model whose text or task cannot be prepared: an error before anything has run, and rows with it afterwards.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { type Backend, LowbitError } from '@lowbit/core';
import { rtn } from '@lowbit/rtn';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { BenchCell } from '../src/outcome.js';
import { hasFailed, isScore } from '../src/row.js';
import { type BenchOptions, runBenchmark } from '../src/run.js';

const prepare = vi.hoisted(() => vi.fn());
vi.mock('../src/prepared-model.js', async (original) => {
  const real = await original<typeof import('../src/prepared-model.js')>();
  prepare.mockImplementation(async (...[resolved, ...others]: Parameters<typeof real.prepareModel>) => {
    if (resolved.name === 'tiny-outliers') throw new LowbitError('CORPUS_MISSING', 'speeches.txt: no such file');
    return real.prepareModel(resolved, ...others);
  });
  return { ...real, prepareModel: prepare };
});

let backend: Backend;
beforeAll(async () => {
  backend = await createOnnxBackend({ threads: 1 });
});
afterAll(() => backend.dispose());

const options = (models: readonly string[], cells: BenchCell[]): BenchOptions => ({
  ...{ backend, models, directory: '.', seeds: [0], recipes: [{ name: 'rtn', recipe: [rtn({ bits: 2, groupSize: 32 })] }] },
  ...{ evaluators: ['size'], calibration: { windows: 1, window: 16 }, heldOut: { windows: 1, window: 16 } },
  onCell: ({ model, recipe, seed, left }) => void cells.push({ model, recipe: `${recipe} ${left}`, seed }),
});

describe('runBenchmark with a model that cannot be prepared', () => {
  it('makes rows of its cells and goes on, when others have been judged', async () => {
    const cells: BenchCell[] = [];
    const rows = await runBenchmark(options(['tiny', 'tiny-outliers', 'stories15M'], cells));
    const kinds = rows.map((row) => `${row.model} ${row.recipe} ${isScore(row) ? row.evaluator : row.error.code}`);
    const judged = (model: string, recipe: string) =>
      ['bits-per-weight', 'bits-per-weight-whole-model'].map((score) => `${model} ${recipe} ${score}`);
    expect(kinds).toEqual([
      ...[...judged('tiny', 'dense'), ...judged('tiny', 'rtn')],
      ...['tiny-outliers dense CORPUS_MISSING', 'tiny-outliers rtn CORPUS_MISSING'],
      ...[...judged('stories15M', 'dense'), ...judged('stories15M', 'rtn')],
    ]);
    expect(rows.filter(hasFailed)[1]).toMatchObject({
      evaluator: 'size',
      method: 'rtn',
      bits: 2,
      error: { message: expect.stringContaining('speeches.txt') as string },
    });
    expect(cells.map(({ recipe }) => recipe)).toEqual(['dense 5', 'rtn 4', 'dense 3', 'rtn 2', 'dense 1', 'rtn 0']);
    // It is tried once, not with each of its cells.
    expect(prepare).toHaveBeenCalledTimes(3);
  }, 120_000);

  it('says so at once where nothing has run', async () => {
    const cells: BenchCell[] = [];
    await expect(runBenchmark(options(['tiny-outliers', 'tiny'], cells))).rejects.toThrow('CORPUS_MISSING');
    expect(cells).toEqual([]);
  }, 120_000);
});
