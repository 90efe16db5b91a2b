// The experiments are data that the runner can use: recipes that their methods accept, specifications that can be written to a file.
import type { ArmOutcome, Experiment, ExperimentRow, RecipeExperiment, StepReference } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { correctionOptions } from '../src/correction/options.js';
import { emefOptions } from '../src/emef/options.js';
import { experiments } from '../src/experiments/index.js';
import { lrecOptions } from '../src/lrec/options.js';

function byName(name: string): RecipeExperiment {
  const found = experiments.find((one) => one.name === name) as RecipeExperiment | undefined;
  if (!found) throw new Error(`no experiment '${name}'`);
  return found;
}

const recipeExperiments = experiments.filter((one): one is RecipeExperiment => 'arms' in one);

it('are those of the paper and its specification, each once', () => {
  expect(experiments.map(({ name }) => name)).toEqual([
    'table',
    'initializers',
    'ranks',
    'losses',
    'transfer',
    'recovery',
    'generate',
    'table-memory',
  ]);
});

/** Every value of `field` in a specification. */
function fieldsOf(specification: unknown): string[] {
  if (typeof specification !== 'object' || specification === null) return [];
  return Object.entries(specification).flatMap(([key, value]) =>
    key === 'field' && typeof value === 'string' ? [value] : fieldsOf(value),
  );
}

describe.each(experiments.map((one) => [one.name, one] as const))('%s', (_, experiment: Experiment) => {
  it('says what it shows and where it comes from', () => {
    expect(experiment.title.length).toBeGreaterThan(20);
    expect(experiment.description.length).toBeGreaterThan(100);
    expect(experiment.source).toContain('2306.08162');
  });

  it('has a figure that survives JSON and brings no data', () => {
    const { figure } = experiment;
    expect(JSON.parse(JSON.stringify(figure))).toEqual(figure);
    expect(figure).not.toHaveProperty('data');
    expect(fieldsOf(figure).length).toBeGreaterThan(0);
  });

  it('names its claims once, and makes none of rows that do not speak about them', () => {
    const claims = experiment.claims ?? [];
    // Whether English is coherent is for who reads it.
    expect(claims.length > 0 || experiment.name === 'generate').toBe(true);
    expect(new Set(claims.map(({ name }) => name)).size).toBe(claims.length);
    for (const claim of claims) expect(claim.check([])).toEqual([]);
  });
});

/** What an outcome of an arm becomes, were every score 0.1. */
function rowOf({ arms: [arm], evaluators = ['text'], rowsOf }: RecipeExperiment): ExperimentRow {
  const scores: ArmOutcome['scores'] = {
    ...(evaluators.includes('text') && { perplexity: 0.1, kl: 0.1, 'top1-agreement': 0.1, 'loss-gap': 0.1 }),
    ...(evaluators.includes('layer-error') && { 'layer-error': 0.1 }),
  };
  const log = { path: 'model', record: { tokens: 1000, tokensPerSecond: 10, overhead: 0.05 } };
  const outcome: ArmOutcome = { arm, model: 'tiny', seed: 0, scores, logs: [log], bitsPerWeight: 2.5, seconds: 1 };
  const [own] = rowsOf?.(outcome) ?? [{ ...arm.parameters, ...scores }];
  return { model: 'tiny', seed: 0, arm: arm.name, bitsPerWeight: 2.5, seconds: 1, ...own };
}

/** Tokens that a step may train on, of all windows of 256. */
function trainedTokens({ method, options }: StepReference, windows: number): number {
  if (method !== 'lrec' && method !== 'emef') return 0;
  const { epochs, maxTokens = Infinity } = (method === 'lrec' ? lrecOptions : emefOptions).parse(options);
  return Math.min(maxTokens, epochs * windows * 256);
}

describe.each(recipeExperiments.map((one) => [one.name, one] as const))('%s', (_, experiment) => {
  it('has arms of different names, all with the same parameters', () => {
    const { arms } = experiment;
    expect(new Set(arms.map(({ name }) => name)).size).toBe(arms.length);
    expect(new Set(arms.map(({ parameters }) => Object.keys(parameters ?? {}).join())).size).toBe(1);
  });

  it("has options that its own methods accept, and names 'rtn' and 'gptq' beside them", () => {
    for (const { method, options } of experiment.arms.flatMap(({ recipe }) => recipe)) {
      expect(['rtn', 'gptq', 'low-rank-correction', 'lrec', 'emef']).toContain(method);
      if (method === 'lrec') expect(() => lrecOptions.parse(options)).not.toThrow();
      if (method === 'emef') expect(() => emefOptions.parse(options)).not.toThrow();
      if (method === 'low-rank-correction') expect(() => correctionOptions.parse(options)).not.toThrow();
    }
  });

  it('trains no arm on more tokens than take minutes on a CPU', () => {
    const { arms, calibrationWindows = 0, name } = experiment;
    // One goes far, and says so.
    const most = name === 'recovery' ? 2_000_000 : 150_000;
    for (const { recipe } of arms) {
      expect(recipe.reduce((tokens, step) => tokens + trainedTokens(step, calibrationWindows), 0)).toBeLessThan(most);
    }
  });

  it('draws and prints what its rows have', () => {
    const { table, figure } = experiment;
    const known = [...Object.keys(rowOf(experiment)), 'measure', 'value'];
    const shown = [...table.rows, ...(table.columns ? [table.columns] : []), ...table.values, ...fieldsOf(figure)];
    expect(shown.filter((field) => !known.includes(field))).toEqual([]);
  });
});

describe('arms', () => {
  const stepsOf = (experiment: string, arm: string) => byName(experiment).arms.find(({ name }) => name === arm)?.recipe ?? [];

  it('of equal bits have the same codes below every correction', () => {
    // What writes text, and what goes far, has the ranges that its quantizer chooses.
    for (const { arms } of recipeExperiments.filter(({ name }) => name !== 'generate' && name !== 'recovery')) {
      const quantizers = arms.map(({ recipe: [first], parameters }) => [parameters?.['bits'] ?? 2, first] as const);
      for (const [bits, { method, options }] of quantizers) {
        expect(options).toMatchObject({ bits, groupSize: 32, clip: 'minmax', ...(method === 'gptq' && { actOrder: true }) });
      }
    }
  });

  it('of ranks and closed forms have the overhead that they are named after', () => {
    expect(stepsOf('ranks', 'LREC, 8')).toMatchObject([{ method: 'gptq' }, { method: 'lrec', options: { overhead: 0.08 } }]);
    // Half the overhead: 1/√2 of the rank's root, so √2 of the rate.
    const rate = (percent: number) => Number(stepsOf('ranks', `LREC, ${percent}`)[1].options?.['learningRate']);
    expect(rate(2) / rate(4)).toBeCloseTo(Math.SQRT2, 12);
    expect(stepsOf('ranks', 'qera-exact, 1')[1]).toEqual({
      method: 'low-rank-correction',
      options: { form: 'qera-exact', overhead: 0.01 },
    });
    expect(stepsOf('initializers', '3, RTN, loftq')[1].options).toEqual({ form: 'loftq', overhead: 0.05 });
  });

  it('train at 2 bits alone among the initializers, from zero and from a closed form', () => {
    const trained = byName('initializers').arms.filter(({ recipe }) => recipe.at(-1)?.method === 'lrec');
    expect(trained.map(({ name }) => name)).toEqual(['2, GPTQ, rilq', '2, GPTQ, LREC from zero', '2, GPTQ, LREC from qera-exact']);
    expect(stepsOf('initializers', '2, GPTQ, LREC from qera-exact').map(({ method }) => method)).toEqual([
      'gptq',
      'low-rank-correction',
      'lrec',
    ]);
  });

  it('of transfer fine-tune the adapters that are there, and new ones of equal size and scaling', () => {
    const [, zero, both, lrec, after] = byName('transfer').arms.map(({ recipe }) => recipe);
    expect(after).toEqual([...lrec, zero[1]]);
    const [tuned, longer] = [zero, both].map((steps) => emefOptions.parse(steps[1].options));
    const corrected = lrecOptions.parse(lrec[1].options);
    expect(tuned).toMatchObject({ stack: false, rank: undefined, alpha: undefined, overhead: corrected.overhead });
    expect([corrected.rank, corrected.alpha]).toEqual([undefined, undefined]);
    expect(longer).toEqual({ ...tuned, epochs: tuned.epochs + corrected.epochs });
  });

  it('of losses differ in the objective alone', () => {
    const parsed = byName('losses').arms.map(({ recipe }) => lrecOptions.parse(recipe[1].options));
    expect(parsed.map(({ objective, lambdaCe, legacyWeights }) => [objective, legacyWeights ?? lambdaCe])).toEqual([
      ['kl', 0],
      ['kl', 0.05],
      ['kl', { kl: 0, ce: 1 }],
      ['hidden', 0.05],
    ]);
    const others = parsed.map(({ objective: _objective, lambdaCe: _lambda, legacyWeights: _legacy, ...rest }) => rest);
    for (const one of others) expect(one).toEqual(others[0]);
  });
});
