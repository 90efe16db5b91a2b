// Small experiments for tests of what runs them.
import type { ComputedExperiment, ExperimentClaim, Recipe, RecipeExperiment, StepReference } from '@lowbit/core';
import { gptq } from '@lowbit/gptq';
import { rtn } from '@lowbit/rtn';

const methods: Readonly<Record<string, (options?: object) => Recipe[number]>> = { rtn, gptq };

export async function buildRecipe(steps: readonly StepReference[]): Promise<Recipe> {
  return steps.map(({ method, options }) => methods[method](options));
}

export const gptqIsBetter: ExperimentClaim = {
  name: 'C1',
  statement: 'gptq adds less loss than rtn',
  check(rows) {
    const gapsOf = (method: string): number[] => rows.filter((row) => row['method'] === method).map((row) => Number(row['loss-gap']));
    const [ours, theirs] = [gapsOf('gptq'), gapsOf('rtn')];
    if (ours.length === 0 || theirs.length === 0) return [];
    return [
      { subject: 'tiny', holds: Math.max(...ours) < Math.min(...theirs), evidence: `${ours.join(', ')} against ${theirs.join(', ')}` },
    ];
  },
};

export const compared: RecipeExperiment = {
  name: 'compared',
  title: 'Two methods',
  description: 'Rounding to nearest and GPTQ.',
  source: 'this test',
  models: ['tiny'],
  seeds: [0, 1],
  calibrationWindows: 4,
  heldOutWindows: 2,
  arms: [
    { name: 'rtn, 2', recipe: [{ method: 'rtn', options: { bits: 2, targets: ['**.q_proj'] } }], parameters: { method: 'rtn' } },
    {
      name: 'gptq, 2',
      recipe: [{ method: 'gptq', options: { bits: 2, targets: ['**.q_proj'] } }],
      parameters: { method: 'gptq' },
      calibrationWindows: 8,
    },
    { name: 'no fit', recipe: [{ method: 'rtn', options: { groupSize: 24 } }], parameters: { method: 'none' } },
  ],
  table: { rows: ['model'], columns: 'method', values: ['loss-gap'] },
  figure: { mark: 'bar', encoding: { x: { field: 'method', type: 'nominal' }, y: { field: 'loss-gap', type: 'quantitative' } } },
  claims: [gptqIsBetter],
};

export const squares: ComputedExperiment = {
  name: 'squares',
  title: 'Squares',
  description: 'Powers of two, and a random number.',
  source: 'arithmetic',
  table: { rows: ['x'], values: ['y'] },
  figure: { mark: 'point', encoding: { x: { field: 'x', type: 'quantitative' }, y: { field: 'y', type: 'quantitative' } } },
  async compute({ rng, progress }) {
    progress?.(1, 1);
    return [1, 2, 3].map((x) => ({ x, y: x ** 2, draw: rng.at('draw').normal(1)[0], error: 0.5 }));
  },
};
