// The experiments are data that the runner can use: recipes that their methods accept, specifications that can be written to a file.
import type { ArmOutcome, Experiment, RecipeExperiment } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { experiments } from '../src/experiments/index.js';
import { decoupleqOptions } from '../src/options.js';

function byName(name: string): RecipeExperiment {
  const found = experiments.find((one) => one.name === name) as RecipeExperiment | undefined;
  if (!found) throw new Error(`no experiment '${name}'`);
  return found;
}

const recipeExperiments = experiments.filter((one): one is RecipeExperiment => 'arms' in one);

it('are those of the paper and its specification, each once', () => {
  expect(experiments.map(({ name }) => name)).toEqual(['table', 'trace', 'iters', 'wstep', 'calib', 'blockwise', 'corr', 'bruteforce']);
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
    expect(experiment.source).toContain('2404.12759');
  });

  it('has a figure that survives JSON and brings no data', () => {
    const { figure } = experiment;
    expect(JSON.parse(JSON.stringify(figure))).toEqual(figure);
    expect(figure).not.toHaveProperty('data');
    expect(fieldsOf(figure).length).toBeGreaterThan(0);
  });

  it('names its claims once, and makes none of rows that do not speak about them', () => {
    const claims = experiment.claims ?? [];
    expect(new Set(claims.map(({ name }) => name)).size).toBe(claims.length);
    for (const claim of claims) expect(claim.check([])).toEqual([]);
  });
});

/** What the method would log for two Linears and a block. */
function outcomeOf(experiment: RecipeExperiment, name: string, scores: ArmOutcome['scores']): ArmOutcome {
  const arm = experiment.arms.find((one) => one.name === name);
  if (!arm) throw new Error(`no arm '${name}'`);
  const trace = [
    { step: 'rtn', loss: 0.4, accepted: 1 },
    { step: 'gptq', loss: 0.2, accepted: 0.9 },
  ];
  const block = {
    blockLossBefore: 0.4,
    blockLossAfter: 0.1,
    blockHeldOutBefore: 0.5,
    blockHeldOutAfter: null,
    learningRate: 3e-4,
    epoch: 3,
  };
  const logs = [
    { path: 'model.layers.0.self_attn.q_proj', record: { loss: 0.2, trace } },
    { path: 'model.layers.0.self_attn.k_proj', record: { loss: 0.4, trace } },
    { path: 'model.layers.0', record: { ...block, losses: [0.4, 0.1] } },
  ];
  return { arm, model: 'tiny', seed: 0, scores, logs, bitsPerWeight: 2.5, seconds: 7 };
}

describe.each(recipeExperiments.map((one) => [one.name, one] as const))('%s', (_, experiment) => {
  it('has arms of different names', () => {
    expect(new Set(experiment.arms.map(({ name }) => name)).size).toBe(experiment.arms.length);
  });

  it("has options that decoupleQ accepts, and is about 'rtn', 'gptq' and 'decoupleq' alone", () => {
    for (const { recipe } of experiment.arms) {
      for (const { method, options = {} } of recipe) {
        expect(['rtn', 'gptq', 'decoupleq']).toContain(method);
        const { targets: _targets, ...own } = options;
        if (method === 'decoupleq') expect(() => decoupleqOptions.parse(own)).not.toThrow();
      }
    }
  });

  it('draws and prints what its rows have', () => {
    const outcome = outcomeOf(experiment, experiment.arms[0].name, { 'loss-gap': 0.1, perplexity: 20, 'layer-error': 0.3 });
    const rows = experiment.rowsOf?.(outcome) ?? [{ ...outcome.arm.parameters, ...outcome.scores }];
    const known = new Set(['model', 'seed', 'arm', 'measure', 'value', ...rows.flatMap((row) => Object.keys(row))]);
    const { table } = experiment;
    const shown = [...table.rows, ...(table.columns ? [table.columns] : []), ...table.values, ...fieldsOf(experiment.figure)];
    expect(shown.filter((field) => !known.has(field))).toEqual([]);
  });
});

describe('rows', () => {
  it('of trace are the half-steps of each Linear, in order', () => {
    const rows = byName('trace').rowsOf?.(outcomeOf(byName('trace'), 'per channel', {}));
    expect(rows).toHaveLength(4);
    expect(rows?.[1]).toEqual({
      groups: 'per channel',
      layer: 'model.layers.0.self_attn.q_proj',
      linear: 'q_proj',
      order: 1,
      step: 'gptq',
      loss: 0.2,
      accepted: 0.9,
    });
  });

  it('of iters have the mean layer loss and the block loss before training', () => {
    const [row] = byName('iters').rowsOf?.(outcomeOf(byName('iters'), 'one epoch block-wise, 4', { 'loss-gap': 0.1 })) ?? [];
    expect(row).toEqual({
      training: 'one epoch block-wise',
      iterations: 4,
      'layer-loss': expect.closeTo(0.3, 12),
      'block-loss': 0.4,
      'loss-gap': 0.1,
      seconds: 7,
    });
  });

  it('of blockwise are one for the outcome and one for each block', () => {
    const rows = byName('blockwise').rowsOf?.(outcomeOf(byName('blockwise'), 'rate 3e-4', { 'loss-gap': 0.1 }));
    expect(rows).toEqual([
      { training: 'rate 3e-4', block: null, 'loss-gap': 0.1, seconds: 7 },
      { training: 'rate 3e-4', block: 'model.layers.0', 'block-loss': 0.1, 'block-share': 0.25, 'held-out-share': null, epoch: 3 },
    ]);
  });

  it('of methods that log no loss have none', () => {
    const { rowsOf } = byName('corr');
    const outcome = { ...outcomeOf(byName('corr'), '2, per channel, RTN', { 'loss-gap': 2, 'layer-error': 0.5 }), logs: [] };
    expect(rowsOf?.(outcome)).toEqual([
      { bits: 2, groups: 'per channel', method: 'RTN', 'layer-loss': null, 'layer-error': 0.5, 'loss-gap': 2 },
    ]);
  });
});
