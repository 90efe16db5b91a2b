// Plans as plain data: which cells they have, and which of their fields decide the numbers of a cell.
import { gptq } from '@lowbit/gptq';
import { describe, expect, it } from 'vitest';
import { buildBuiltIn } from '../src/built-in.js';
import { type BenchPlan, cellKey, cellsOf, makePlan, type PlanDraft, planDigest } from '../src/plan.js';

const draft: PlanDraft = {
  models: ['tiny', 'models/toy'],
  recipes: [
    { name: 'rtn-2', steps: [{ method: 'rtn', options: { bits: 2, groupSize: 32 } }] },
    { name: 'gptq-2', steps: [{ method: 'gptq', options: { bits: 2 } }, { method: 'lrec' }], calibrationWindows: 8 },
  ],
  evaluators: ['text'],
  seeds: [0, 3],
  calibration: { windows: 4 },
  heldOut: { windows: 2, window: undefined },
  engine: { backend: 'onnxruntime:cpu', threads: 1 },
};

const made = (more: Partial<PlanDraft> = {}): Promise<BenchPlan> => makePlan({ ...draft, ...more }, buildBuiltIn);
const gptqOnToy = { model: 'toy', recipe: 'gptq-2', seed: 3 };

describe('makePlan', () => {
  it('says the versions of methods, keeps options as they are written, and is the same when it is read back', async () => {
    const plan = await made();
    expect(plan.recipes[1].steps).toEqual([
      { method: 'gptq', version: gptq.definition.version, options: { bits: 2 } },
      { method: 'lrec', version: expect.any(Number) as number },
    ]);
    expect(JSON.parse(JSON.stringify(plan))).toEqual(plan);
    expect(plan.heldOut).not.toHaveProperty('window');
  });

  it('describes what a module exported by its parsed options, steps among them too', async () => {
    const recipe = [gptq({ bits: 3, targets: ['**.q_proj'] })];
    const plan = await makePlan({ ...draft, recipes: [{ name: 'mine', module: 'mine.ts' }] }, async () => recipe);
    expect(plan.recipes).toMatchObject([
      { name: 'mine', module: 'mine.ts', steps: [{ method: 'gptq', options: { bits: 3, groupSize: 32, targets: ['**.q_proj'] } }] },
    ]);
  });

  it('refuses recipes of no known method, and options that it does not take', async () => {
    await expect(made({ recipes: [{ name: 'x', steps: [{ method: 'gtpq' }] }] })).rejects.toMatchObject({ code: 'METHOD_UNKNOWN' });
    const steps = [{ method: 'rtn', options: { bits: 40 } }];
    await expect(made({ recipes: [{ name: 'x', steps }] })).rejects.toMatchObject({ code: 'OPTIONS_INVALID' });
  });
});

describe('cellsOf', () => {
  it('judges the dense model as seed 0, whichever seeds there are: it is the same with all of them', async () => {
    expect(cellsOf(await made({ models: ['tiny'], seeds: [7, 3] })).map(({ seed }) => seed)).toEqual([0, 7, 3, 7, 3]);
  });

  it('judges the dense model once, and every recipe with every seed', async () => {
    expect(cellsOf(await made()).map(({ model, recipe, seed }) => `${model} ${recipe} ${seed}`)).toEqual([
      'tiny dense 0',
      'tiny rtn-2 0',
      'tiny rtn-2 3',
      'tiny gptq-2 0',
      'tiny gptq-2 3',
      'toy dense 0',
      'toy rtn-2 0',
      'toy rtn-2 3',
      'toy gptq-2 0',
      'toy gptq-2 3',
    ]);
  });
});

describe('cellKey', () => {
  it('is another one for each cell', async () => {
    const plan = await made();
    expect(new Set(cellsOf(plan).map((cell) => cellKey(plan, cell))).size).toBe(10);
  });

  it('does not depend on other models, recipes and seeds, nor on the order of fields', async () => {
    const weights = { 'models/toy': 'a' };
    const key = cellKey(await made({ weights: { ...weights, other: 'b' } }), gptqOnToy);
    const [, { steps, ...rest }] = draft.recipes;
    const fewer = await made({ models: ['models/toy'], weights, recipes: [{ steps, ...rest }], seeds: [3] });
    expect(cellKey(fewer, gptqOnToy)).toBe(key);
    expect(planDigest(fewer)).not.toBe(planDigest(await made()));
  });

  it.each<[string, Partial<PlanDraft>]>([
    ['model', { models: ['elsewhere/toy'] }],
    ['options', { recipes: [{ ...draft.recipes[1], steps: [{ method: 'gptq', options: { bits: 3 } }, { method: 'lrec' }] }] }],
    ['calibration windows of the recipe', { recipes: [{ ...draft.recipes[1], calibrationWindows: 9 }] }],
    ['calibration', { calibration: { windows: 5 } }],
    ['held-out text', { heldOut: { windows: 2, window: 64 } }],
    ['evaluators', { evaluators: ['text', 'size'] }],
    ['task', { task: { source: 'sotu-era' } }],
    ['number of threads', { engine: { backend: 'onnxruntime:cpu', threads: 2 } }],
    ['backend', { engine: { backend: 'onnxruntime:cuda', threads: 1 } }],
    ['weights of its model', { weights: { 'models/toy': 'b' } }],
    ['files', { files: { 'a.txt': 'b' } }],
    ['samples', { samples: { prompts: ['A'], maxTokens: 1 } }],
  ])('depends on the %s', async (_, changed) => {
    expect(cellKey(await made(changed), gptqOnToy)).not.toBe(cellKey(await made(), gptqOnToy));
  });

  it('depends on the versions of methods', async () => {
    const plan = await made();
    const recipes = plan.recipes.map((recipe) => ({
      ...recipe,
      steps: recipe.steps.map((step) => ({ ...step, version: step.version + 1 })),
    }));
    expect(cellKey({ ...plan, recipes }, gptqOnToy)).not.toBe(cellKey(plan, gptqOnToy));
  });
});
