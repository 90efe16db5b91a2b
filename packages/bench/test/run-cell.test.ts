// One cell: what its rows say of the peak of memory, and what is left of it where no evaluator has anything to say.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { type Backend, defineMethod } from '@lowbit/core';
import { rotate } from '@lowbit/quad';
import { rtn } from '@lowbit/rtn';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { BenchProgress } from '../src/outcome.js';
import type { NamedRecipe } from '../src/recipe.js';
import { type BenchRow, hasFailed, isScore } from '../src/row.js';
import { type BenchOptions, runBenchmark } from '../src/run.js';

/** What the system says of this process, MiB. */
const system = vi.hoisted(() => ({ peak: 0 }));
vi.mock('../src/peak-memory.js', () => ({
  measurePeakMemory() {
    system.peak = 10;
    return () => system.peak;
  },
}));

/** Takes much memory and gives it back. */
const greedy = defineMethod({
  ...rotate.definition,
  name: 'greedy',
  async transform(model) {
    system.peak = 900;
    return model;
  },
});

let backend: Backend;
beforeAll(async () => {
  backend = await createOnnxBackend({ threads: 1 });
});
afterAll(() => backend.dispose());

function run(recipe: NamedRecipe, more: Partial<BenchOptions>): Promise<BenchRow[]> {
  return runBenchmark({
    ...{ backend, directory: '.', models: ['tiny'], recipes: [recipe], seeds: [0] },
    ...{ evaluators: ['size'], calibration: { windows: 1, window: 16 }, heldOut: { windows: 1, window: 16 }, ...more },
  });
}

describe('the peak of memory', () => {
  it.each([[['memory'] as const], [['memory', 'size'] as const], [['size', 'memory'] as const]])(
    'has that of quantizing, whatever the evaluators %j measure for themselves',
    async (evaluators) => {
      const rows = await run({ name: 'greedy', recipe: [greedy()] }, { evaluators });
      expect(rows.filter(hasFailed)).toEqual([]);
      const peaks = rows.filter(({ recipe }) => recipe === 'greedy').map(({ peakRssMiB }) => peakRssMiB);
      expect(new Set(peaks)).toEqual(new Set([900]));
      expect(rows.filter(({ recipe }) => recipe === 'dense').map(({ peakRssMiB }) => peakRssMiB)).not.toContain(900);
    },
    60_000,
  );
});

describe('an evaluator that has nothing to say of a model', () => {
  const recipe = { name: 'rotated', recipe: [rotate(), rtn({ groupSize: 32 })] };
  const notes: string[] = [];
  const onProgress = (progress: BenchProgress): void => {
    if (progress.type === 'note') notes.push(progress.text);
  };

  it('leaves a row that says so where no other has, which is no failure', async () => {
    const rows = await run(recipe, { evaluators: ['layer-error'], onProgress });
    const own = rows.filter((row) => row.recipe === 'rotated');
    expect(own).toMatchObject([
      {
        evaluator: 'layer-error',
        value: null,
        error: { code: 'NOT_APPLICABLE', message: expect.stringContaining('REFERENCE_MISMATCH') as string },
      },
    ]);
    expect(own.filter(hasFailed)).toEqual([]);
    expect(notes).toContainEqual(expect.stringContaining('rotated: without REFERENCE_MISMATCH') as string);
  }, 60_000);

  it('is a note alone beside the scores of others', async () => {
    const rows = await run(recipe, { evaluators: ['layer-error', 'size'] });
    const own = rows.filter((row) => row.recipe === 'rotated');
    expect(own.every(isScore)).toBe(true);
    expect(own.map(({ evaluator }) => evaluator)).toContain('bits-per-weight');
  }, 60_000);
});
