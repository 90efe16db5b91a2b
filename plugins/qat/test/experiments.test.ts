// The experiments on recipes are data that the runner can use: options that their methods accept, specifications that can be written to a file.
import type { ArmOutcome, ExperimentRow, RecipeExperiment } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { qatBlocksOptions } from '../src/blocks/options.js';
import { WINDOW } from '../src/experiments/arms.js';
import { experiments } from '../src/experiments/index.js';
import { qatOptions } from '../src/options.js';

const recipes = experiments.filter((one): one is RecipeExperiment => 'arms' in one && !('study' in one));

function byName(name: string): RecipeExperiment {
  const found = recipes.find((one) => one.name === name);
  if (!found) throw new Error(`no experiment '${name}'`);
  return found;
}

it('are those of the specification, each once', () => {
  expect(recipes.map(({ name }) => name)).toEqual(['gap', 'budget', 'overfit', 'loss', 'init', 'quantizer', 'stages', 'pareto']);
});

/** Every value of `field` in a specification. */
function fieldsOf(specification: unknown): string[] {
  if (typeof specification !== 'object' || specification === null) return [];
  return Object.entries(specification).flatMap(([key, value]) =>
    key === 'field' && typeof value === 'string' ? [value] : fieldsOf(value),
  );
}

/** What an outcome of the last arm becomes, were every score 0.1. */
function rowsOf({ arms, rowsOf: read }: RecipeExperiment): readonly ExperimentRow[] {
  const arm = arms[arms.length - 1];
  const scores = { perplexity: 0.1, kl: 0.1, 'top1-agreement': 0.1, 'loss-gap': 0.1 };
  const rounds = [3, 6, 9].map((step) => ({ step, loss: 3 - step / 10, heldOutLoss: 2 + Math.abs(step - 6) / 10 }));
  const logs = [...rounds, { lossBefore: 2.4, keptRound: 3 }].map((record) => ({ path: 'model', record }));
  const outcome: ArmOutcome = { arm, model: 'tiny', seed: 0, scores, logs, bitsPerWeight: 2.5, seconds: 1 };
  const own = read?.(outcome) ?? [{ ...arm.parameters, ...scores }];
  return own.map((row) => ({ model: 'tiny', seed: 0, arm: arm.name, bitsPerWeight: 2.5, seconds: 1, ...row }));
}

/** Fields that figures make themselves. */
const made = ['measure', 'value', 'curves'];

describe.each(recipes.map((one) => [one.name, one] as const))('%s', (_, experiment) => {
  const { arms, figure, table, claims = [] } = experiment;

  it('says what it shows and where it comes from', () => {
    expect(experiment.title.length).toBeGreaterThan(20);
    expect(experiment.description.length).toBeGreaterThan(200);
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

  it("has options that its own methods accept, and names others' beside them", () => {
    for (const { method, options } of arms.flatMap(({ recipe }) => recipe)) {
      expect(['rtn', 'gptq', 'decoupleq', 'qat', 'qat-blocks']).toContain(method);
      if (method === 'qat') expect(() => qatOptions.parse(options)).not.toThrow();
      if (method === 'qat-blocks') expect(() => qatBlocksOptions.parse(options)).not.toThrow();
    }
  });

  it('trains no arm on more tokens than take minutes on a CPU', () => {
    const windowsOf = (arm: (typeof arms)[number]) => arm.calibrationWindows ?? experiment.calibrationWindows ?? 0;
    for (const arm of arms) {
      for (const { options } of arm.recipe.filter(({ method }) => method === 'qat')) {
        const { epochs, maxTokens = Infinity } = qatOptions.parse(options);
        expect(Math.min(maxTokens, epochs * windowsOf(arm) * WINDOW), arm.name).toBeLessThan(120_000);
      }
    }
  });

  it('draws and prints what its rows have', () => {
    const known = [...rowsOf(experiment).flatMap((row) => Object.keys(row)), ...made];
    const shown = [...table.rows, ...(table.columns ? [table.columns] : []), ...table.values, ...fieldsOf(figure)];
    expect(shown.filter((field) => !known.includes(field))).toEqual([]);
  });

  it('names its claims once, each silent about rows that it does not speak about', () => {
    expect(claims.length).toBeGreaterThan(0);
    expect(new Set(claims.map(({ name }) => name)).size).toBe(claims.length);
    for (const claim of claims) expect(claim.check([])).toEqual([]);
  });
});

describe('arms', () => {
  const stepsOf = (experiment: string, arm: string) => byName(experiment).arms.find(({ name }) => name === arm)?.recipe ?? [];

  it('of budget take as many steps with every amount of text', () => {
    const steps = byName('budget').arms.flatMap(({ recipe, calibrationWindows: windows = 0 }) =>
      recipe
        .filter(({ method }) => method === 'qat')
        .map(({ options }) => {
          const { epochs, maxTokens = 0, holdOut, batchWindows } = qatOptions.parse(options);
          const batches = Math.ceil((windows * (1 - holdOut)) / batchWindows);
          return Math.min(epochs * batches, maxTokens / (batchWindows * WINDOW));
        }),
    );
    expect(new Set(steps)).toEqual(new Set([112]));
  });

  it('of loss differ in the objective alone', () => {
    const parsed = byName('loss').arms.map(({ recipe }) => qatOptions.parse(recipe[1].options));
    expect(new Set(parsed.map(({ objective, lambdaCe }) => `${objective} ${lambdaCe}`)).size).toBe(7);
    const others = parsed.map(({ objective: _objective, lambdaCe: _lambda, ...rest }) => rest);
    for (const one of others) expect(one).toEqual(others[0]);
  });

  it('of init train scales with codes as they are, or everything from either kind of weights', () => {
    const optionsOf = (trained: string) => qatOptions.parse(stepsOf('init', `GPTQ, ${trained}`)[1].options);
    expect(optionsOf('scales and offsets')).toMatchObject({ train: 'scales', objective: 'kl' });
    expect(optionsOf('all, dense weights')).toMatchObject({ train: 'all', latent: 'reference' });
    expect(optionsOf('all, dequantized weights')).toMatchObject({ train: 'all', latent: 'dequantized' });
  });

  it('from rounding have the ranges that rounding has', () => {
    for (const bits of [2, 3, 4, 8]) {
      const [rtn] = stepsOf('gap', `${bits}, RTN`);
      const [qat] = stepsOf('gap', `${bits}, QAT from rounding`);
      expect(qatOptions.parse(qat.options)).toMatchObject({ ...rtn.options, quantizer: 'minmax' });
    }
  });

  it('of stages have the phases of EfficientQAT in their order', () => {
    expect(stepsOf('stages', 'RTN, blocks, then scales of the model').map(({ method }) => method)).toEqual(['rtn', 'qat-blocks', 'qat']);
  });
});

it('rows of overfit are the start and judgements, of which the last one has the ends of the curves and the turn', () => {
  const rows = rowsOf(byName('overfit'));
  expect(rows.map((row) => [row['step'], row['training loss'], row['held-out loss']])).toEqual([
    [0, undefined, 2.4],
    [3, 2.7, 2.3],
    [6, 2.4, 2],
    [9, 2.1, 2.3],
  ]);
  expect(rows.map((row) => row['isLast'])).toEqual([undefined, undefined, undefined, true]);
  expect(rows[3]).toMatchObject({
    ...{ 'first training loss': 2.7, 'training loss at the turn': 2.4, 'last training loss': 2.1 },
    ...{ 'first held-out loss': 2.4, 'least held-out loss': 2, 'last held-out loss': 2.3, 'loss-gap': 0.1 },
  });
});
