// The experiments are data that the runner can use: recipes that their methods accept, specifications that can be written to a file.
import type { ArmOutcome, ExperimentRow, RecipeExperiment, StepReference } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { compensateOptions } from '../src/compensate/options.js';
import { experiments } from '../src/experiments/index.js';
import { channelShares } from '../src/magnitudes.js';
import { activationsOptions, quadOptions, rotateOptions } from '../src/options.js';
import { tuneOptions } from '../src/tune/options.js';

const all = experiments as readonly RecipeExperiment[];

function byName(name: string): RecipeExperiment {
  const found = all.find((one) => one.name === name);
  if (!found) throw new Error(`no experiment '${name}'`);
  return found;
}

function stepsOf(experiment: string, arm: string): readonly StepReference[] {
  const found = byName(experiment).arms.find(({ name }) => name === arm);
  if (!found) throw new Error(`${experiment} has no arm '${arm}'`);
  return found.recipe;
}

it('are those of the paper and its specification, each once, and all of them recipes', () => {
  expect(all.map(({ name }) => name)).toEqual(['table', 'ranks', 'basis', 'parts', 'clip', 'weights', 'peft', 'spectrum', 'activations']);
  for (const { arms } of all) expect(arms.length).toBeGreaterThan(1);
});

/** Every value of `field` in a specification. */
function fieldsOf(specification: unknown): string[] {
  if (typeof specification !== 'object' || specification === null) return [];
  return Object.entries(specification).flatMap(([key, value]) =>
    key === 'field' && typeof value === 'string' ? [value] : fieldsOf(value),
  );
}

/** What an outcome of the first arm becomes, were every score 0.1. */
function rowsOf({ arms: [arm], rowsOf: read }: RecipeExperiment): ExperimentRow[] {
  const scores = { perplexity: 0.1, kl: 0.1, 'top1-agreement': 0.1, 'loss-gap': 0.1 };
  const logs = [
    { path: 'model', record: { rank: 2, energy: [0.4, 0.6] } },
    ...[0, 1].map((block) => ({
      path: `model.layers.${block}.mlp.down_proj`,
      record: { rms: 0.5, largest: channelShares.map((_, i) => i + 1) },
    })),
  ];
  const outcome: ArmOutcome = { arm, model: 'tiny', seed: 0, scores, logs, bitsPerWeight: 4.5, seconds: 1 };
  const own = read?.(outcome) ?? [{ ...arm.parameters, ...scores }];
  return own.map((row) => ({ model: 'tiny', seed: 0, arm: arm.name, bitsPerWeight: 4.5, seconds: 1, ...row }));
}

/** How options of each method are read; weight quantizers have their own tests. */
const parsers = {
  quad: quadOptions,
  rotate: rotateOptions,
  activations: activationsOptions,
  tune: tuneOptions,
  compensate: compensateOptions,
} as const;

describe.each(all.map((one) => [one.name, one] as const))('%s', (_, experiment) => {
  const { arms, figure, table, claims = [] } = experiment;

  it('says what it shows and where it comes from', () => {
    expect(experiment.title.length).toBeGreaterThan(20);
    expect(experiment.description.length).toBeGreaterThan(100);
    expect(experiment.source).toContain('2503.19353');
  });

  it('has a figure that survives JSON and brings no data', () => {
    expect(JSON.parse(JSON.stringify(figure))).toEqual(figure);
    expect(figure).not.toHaveProperty('data');
  });

  it('has arms of different names, all with the same parameters', () => {
    expect(new Set(arms.map(({ name }) => name)).size).toBe(arms.length);
    expect(new Set(arms.map(({ parameters }) => Object.keys(parameters ?? {}).join())).size).toBe(1);
  });

  it('has options that their methods accept', () => {
    for (const { method, options } of arms.flatMap(({ recipe }) => recipe)) {
      expect([...Object.keys(parsers), 'rtn', 'gptq', 'decoupleq']).toContain(method);
      const { overrides: _, targets: __, ...own } = options ?? {};
      if (method in parsers) expect(() => parsers[method as keyof typeof parsers].parse(own)).not.toThrow();
    }
  });

  it('draws and prints what its rows have', () => {
    const rows = rowsOf(experiment);
    const known = rows.flatMap((row) => Object.keys(row));
    const shown = [...table.rows, ...(table.columns ? [table.columns] : []), ...table.values, ...fieldsOf(figure)];
    expect(shown.filter((field) => !known.includes(field))).toEqual([]);
  });

  it('names its claims once, each silent about rows that it does not speak about', () => {
    expect(new Set(claims.map(({ name }) => name)).size).toBe(claims.length);
    for (const claim of claims) expect(claim.check([])).toEqual([]);
  });
});

describe('arms', () => {
  it('have weights with one symmetric scale an output channel, except those of decoupleQ', () => {
    for (const { method, options } of all.flatMap(({ arms }) => arms.flatMap(({ recipe }) => recipe))) {
      if (method === 'rtn' || method === 'gptq') expect(options).toMatchObject({ groupSize: -1, symmetric: true, clip: 'mse' });
      if (method === 'decoupleq') expect(options).toMatchObject({ groupSize: -1, blockEpochs: 0 });
    }
  });

  it('of the table have the bits that their format names', () => {
    const bits = (arm: string) => stepsOf('table', arm).map(({ options }) => options);
    expect(bits('W4A4/A8, QUAD-GPTQ')).toMatchObject([{ rank: 12, activationBits: 4, outputActivationBits: 8 }, { bits: 4 }]);
    expect(bits('W3A3, QuaRot-RTN')).toMatchObject([{ activationBits: 3, outputActivationBits: 3 }, { bits: 3 }]);
    expect(bits('W4A4/A8, GPTQ')).toMatchObject([
      { bits: 4, overrides: { '**.o_proj': { bits: 8 }, '**.down_proj': { bits: 8 } } },
      { bits: 4 },
    ]);
    expect(byName('table').arms).toHaveLength(18);
  });

  it('of parts leave the other part alone', () => {
    expect(stepsOf('parts', 'W16A4, QUAD').map(({ method }) => method)).toEqual(['quad']);
    expect(stepsOf('parts', 'W4A16, QuaRot')).toMatchObject([
      { method: 'rotate', options: { activationBits: 16, outputActivationBits: 16 } },
      { method: 'gptq', options: { bits: 4 } },
    ]);
  });

  it('of ranks, basis and clip differ from QUAD in one option, beside bits and what goes with KV4', () => {
    const plain: Readonly<Record<string, unknown>> = quadOptions.parse({ rank: 12 });
    const beside = ['activationBits', 'outputActivationBits', 'rotateKeys'];
    for (const name of ['ranks', 'basis', 'clip']) {
      for (const { method, options } of byName(name).arms.map(({ recipe: [first] }) => first)) {
        if (method !== 'quad') continue;
        const changed = Object.entries(quadOptions.parse(options)).filter(([key, value]) => value !== plain[key] && !beside.includes(key));
        expect(changed.length).toBeLessThan(2);
      }
    }
  });

  it('of peft tune equally long at one rate; each control tunes the same parameters of what is hardly rounded', () => {
    const tunings = byName('peft').arms.flatMap(({ recipe }) => recipe.filter(({ method }) => method === 'tune'));
    const parsed = tunings.map(({ options }) => tuneOptions.parse(options));
    expect(new Set(parsed.map(({ epochs, batchWindows, learningRate }) => `${epochs} ${batchWindows} ${learningRate}`)).size).toBe(1);
    for (const tuned of ['QUAD, tuned', 'QUAD, columns tuned', 'QuaRot, scales tuned']) {
      const [own, control] = [stepsOf('peft', tuned), stepsOf('peft', `control of ${tuned}`)];
      expect(control.at(-1)).toEqual(own.at(-1));
      expect(control[0]).toMatchObject({ method: own[0].method, options: { activationBits: 16, outputActivationBits: 16 } });
      for (const { method, options } of control.slice(1, -1)) expect([method, options?.['bits']]).toEqual(['rtn', 8]);
    }
  });
});

describe('spectrum', () => {
  it('has a row for each rank, and a line of the table for few of them', () => {
    const rows = rowsOf(byName('spectrum'));
    expect(rows.map(({ rank, share, directions }) => [rank, share, directions])).toEqual([
      [1, 0.4, 1],
      [2, 0.6, 2],
    ]);
  });
});

describe('activations', () => {
  it('differ in the basis alone, and hand on what is hardly rounded', () => {
    const recipes = byName('activations').arms.map(({ recipe }) => recipe);
    const looks = recipes.map((steps) => steps.at(-1));
    expect(looks).toEqual(Array.from({ length: 3 }, () => looks[0]));
    expect(looks[0]).toMatchObject({ method: 'activations', options: { bits: 15, clipRatio: 1, magnitudes: true } });
    expect(recipes.map((steps) => steps.slice(0, -1).map(({ method }) => method))).toEqual([[], ['rotate'], ['quad']]);
    for (const { options } of recipes.flatMap((steps) => steps.slice(0, -1))) {
      expect(options).toMatchObject({ activationBits: 16, outputActivationBits: 16 });
    }
  });

  it('have a row for each block, and the profile of the one at half the depth', () => {
    const rows = rowsOf(byName('activations'));
    const shared = { basis: 'raw', input: 'down' };
    const summaries = rows.filter((row) => row['block'] !== undefined);
    expect(summaries).toMatchObject([0, 1].map((block) => ({ ...shared, block, loudest: 10, median: 4, 'channel-ratio': 2.5, crest: 20 })));
    const profile = rows.filter((row) => row['channels'] !== undefined);
    expect(profile).toMatchObject(channelShares.map((channels, i) => ({ ...shared, channels, magnitude: i + 1 })));
  });
});
