// The experiments are data that the runner can use; what is computed without a model agrees with the algebra.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { type ArmOutcome, type ComputedExperiment, createRng, type ExperimentRow, type RecipeExperiment } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { createDraws } from '../src/direction/keys.js';
import { biasRows } from '../src/experiments/bias.js';
import { driftRows } from '../src/experiments/drift.js';
import { experiments } from '../src/experiments/index.js';
import { quzoOptions } from '../src/options.js';

const recipes = experiments.filter((one): one is RecipeExperiment => 'arms' in one && !('study' in one));
const computed = experiments.filter((one): one is ComputedExperiment => 'compute' in one);

it('are those of the specification, each once', () => {
  expect(computed.map(({ name }) => name)).toEqual(['bias', 'drift', 'table-memory']);
  expect(experiments.filter((one) => 'study' in one).map(({ name }) => name)).toEqual(['memory']);
  expect(recipes.map(({ name }) => name)).toEqual([
    'adaptation',
    'adaptation-stories',
    'rounding',
    'queries',
    'variants',
    'curves',
    'tiny-tasks',
  ]);
});

/** Every value of `field` in a specification. */
function fieldsOf(specification: unknown): string[] {
  if (typeof specification !== 'object' || specification === null) return [];
  return Object.entries(specification).flatMap(([key, value]) =>
    key === 'field' && typeof value === 'string' ? [value] : fieldsOf(value),
  );
}

/** What an outcome of the last arm becomes: every score 0.1, and what `quzo` logs. */
function rowsOf({ arms, rowsOf: read }: RecipeExperiment): readonly ExperimentRow[] {
  const arm = arms[arms.length - 1];
  const scores = { perplexity: 0.1, kl: 0.1, 'top1-agreement': 0.1, 'loss-gap': 0.1, 'task-accuracy': 0.1, 'task-loss': 0.1 };
  const rounds = [200, 400].map((step) => ({ step, loss: 3, heldOutLoss: 3.1, changedPerStep: step / 10 }));
  const logs = [{ error: 0.1 }, ...rounds, { elements: 1000, forwardPasses: 800 }].map((record) => ({ path: 'model', record }));
  const outcome: ArmOutcome = { arm, model: 'tiny', seed: 0, scores, logs, bitsPerWeight: 8.5, seconds: 1 };
  const own = read?.(outcome) ?? [];
  return own.map((row) => ({ model: 'tiny', seed: 0, arm: arm.name, bitsPerWeight: 8.5, seconds: 1, ...row }));
}

describe.each(recipes.map((one) => [one.name, one] as const))('%s', (_, experiment) => {
  const { arms, figure, table, claims = [] } = experiment;

  it('says what it shows, where it comes from, and that it needs a text if it has no task', () => {
    expect(experiment.title.length).toBeGreaterThan(20);
    expect(experiment.description.includes('--text')).toBe(experiment.task === undefined);
    expect(experiment.source).toMatch(/arXiv \d{4}\.\d{5}/);
  });

  it('has a figure that survives JSON and brings no data', () => {
    expect(JSON.parse(JSON.stringify(figure))).toEqual(figure);
    expect(figure).not.toHaveProperty('data');
  });

  it('has arms of different names, all with the same parameters', () => {
    expect(new Set(arms.map(({ name }) => name)).size).toBe(arms.length);
    expect(new Set(arms.map(({ parameters }) => Object.keys(parameters ?? {}).join())).size).toBe(1);
  });

  it('has options that the method accepts, of one course that keeps its last state', () => {
    const options = arms.flatMap(({ recipe }) => recipe).flatMap(({ method, options }) => (method === 'quzo' ? [options] : []));
    expect(options.length).toBeGreaterThan(0);
    const batchWindows = experiment.task ? 32 : 2;
    for (const one of options) expect(quzoOptions.parse(one)).toMatchObject({ keepBest: false, schedule: 'linear', batchWindows });
  });

  it('draws and prints what its rows have', () => {
    const known = rowsOf(experiment).flatMap((row) => Object.keys(row));
    const shown = [...table.rows, ...(table.columns ? [table.columns] : []), ...table.values, ...fieldsOf(figure)];
    expect(shown.filter((field) => !known.includes(field))).toEqual([]);
  });

  it('names its claims once, each silent about rows that it does not speak about', () => {
    expect(new Set(claims.map(({ name }) => name)).size).toBe(claims.length);
    for (const claim of claims) expect(claim.check([])).toEqual([]);
  });
});

it('arms of all experiments but curves take no more forward passes than 800', () => {
  for (const { name, arms } of recipes.filter((one) => one.name !== 'curves')) {
    for (const { options } of arms.flatMap(({ recipe }) => recipe.filter(({ method }) => method === 'quzo'))) {
      const { steps, queries, variant } = quzoOptions.parse(options);
      const passes = steps * (variant === 'fzoo' ? queries + 1 : 2 * queries);
      expect(passes, `${name}: ${JSON.stringify(options)}`).toBeLessThanOrEqual(800);
      expect(passes).toBeGreaterThan(780);
    }
  }
});

it('rows say which share of the elements a step changes', () => {
  const adaptation = recipes.find(({ name }) => name === 'adaptation');
  expect(adaptation && rowsOf(adaptation)).toMatchObject([{ changed: 0.03, elements: 1000, passes: 800, 'loss-gap': 0.1 }]);
});

describe('bias', () => {
  const rows = (grid: 'codes' | 'float', fineness: number, distribution: 'gaussian' | 'rademacher'): ExperimentRow[] =>
    biasRows({ grid, fineness, distribution, elements: 512, queries: 400 }, createDraws(7));
  const of = (own: readonly ExperimentRow[], estimator: string): ExperimentRow => {
    const found = own.find((row) => row['estimator'] === estimator);
    if (!found) throw new Error(`no row of ${estimator}`);
    return found;
  };

  it('finds the second moment of signs on codes, 1/σ below one code', () => {
    const own = rows('codes', 0.25, 'rademacher');
    expect(of(own, 'rge1')['s']).toBe(4);
    // Standard error of 0.01 each, at 4 and at 1.
    expect(Math.abs(Number(of(own, 'rge1')['along']) - 4)).toBeLessThan(0.06);
    expect(Math.abs(Number(of(own, 'rge2')['along']) - 1)).toBeLessThan(0.06);
    expect(Number(of(own, 'rge2')['d·SNR'])).toBeCloseTo(1 / 16, 2);
    expect(of(own, 'nearest')).toMatchObject({ along: 0, d·SNR: 0 });
  });

  it('finds nothing to round in signs of whole codes', () => {
    for (const row of rows('codes', 2, 'rademacher')) expect(row).toMatchObject({ along: 1, d·SNR: 1, 'standard error': 0 });
  });

  it('finds the second moment of normal directions of 2 bits in their largest elements', () => {
    const own = rows('float', 2, 'gaussian');
    const { s, along, 'standard error': error } = of(own, 'rge1');
    expect(Math.abs(Number(along) - Number(s))).toBeLessThan(5 * Number(error));
    expect(Number(of(own, 'rge2')['d·SNR']) * Number(s) ** 2).toBeCloseTo(1, 0);
  });

  it('has claims that hold on its rows and not on others', () => {
    const bias = experiments.find(({ name }) => name === 'bias');
    const own = rows('codes', 0.25, 'gaussian');
    const holds = (some: readonly ExperimentRow[]) => bias?.claims?.map((claim) => claim.check(some).every((verdict) => verdict.holds));
    expect(holds(own)).toEqual([true, true, true, true]);
    expect(holds(own.map((row) => ({ ...row, along: Number(row['along']) * 1.1, d·SNR: row['estimator'] === 'rge1' ? 1 : 1 })))).toEqual([
      false,
      false,
      false,
      false,
    ]);
  });
});

describe('drift', () => {
  it('leaves 45 % of the elements changed in any float format, and none by expressions', async () => {
    const rows = await driftRows({ backend: createReferenceBackend(), rng: createRng(0) }, [1, 4]);
    const first = (perturbed: string): ExperimentRow | undefined =>
      rows.find((row) => row['perturbed'] === perturbed && row['steps'] === 1);
    for (const format of ['float32', 'float16', 'bfloat16']) {
      expect(Math.abs(Number(first(`${format}, in place`)?.['changed']) - 0.455)).toBeLessThan(0.02);
    }
    // Half a unit in the last place of each format, relative to weights below a power of two.
    expect(Number(first('float16, in place')?.['relative error'])).toBeCloseTo(4.9e-4, 5);
    expect(Number(first('bfloat16, in place')?.['relative error'])).toBeCloseTo(3.9e-3, 4);
    expect(Number(first('INT4 in place, cut at its ends')?.['changed'])).toBeGreaterThan(0);
    const ours = rows.filter((row) => String(row['perturbed']).startsWith('expressions'));
    expect(ours.map((row) => [row['steps'], row['changed'], row['relative error']])).toEqual([
      [1, 0, 0],
      [4, 0, 0],
    ]);
  });
});
