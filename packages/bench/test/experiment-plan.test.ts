// What a person asks of an experiment, resolved to what runs, or refused.
import { describe, expect, it } from 'vitest';
import { inOrder, isComputed, planExperiment } from '../src/experiment/plan.js';
import { buildRecipe, compared, squares } from './experiments.js';

const plan = (changes?: Parameters<typeof planExperiment>[3], experiment = compared) =>
  planExperiment('sample/compared', experiment, buildRecipe, changes);

describe('planExperiment', () => {
  it('takes from the experiment what a person leaves out', async () => {
    const whole = await plan();
    expect(whole).toMatchObject({
      models: ['tiny'],
      seeds: [0, 1],
      evaluators: ['text'],
      calibration: { windows: 4 },
      heldOut: { windows: 2 },
    });
    const { models: _, seeds: __, calibrationWindows: ___, heldOutWindows: ____, ...bare } = compared;
    expect(await plan({}, bare)).toMatchObject({
      models: ['tiny', 'stories15M'],
      seeds: [0, 1, 2],
      calibration: { windows: 64 },
      heldOut: { windows: 40 },
    });
    expect(await plan({ models: ['here'], seeds: [7], calibrationWindows: 9, heldOutWindows: 3, window: 16 })).toMatchObject({
      models: ['here'],
      seeds: [7],
      calibration: { windows: 9, window: 16 },
      heldOut: { windows: 3, window: 16 },
    });
  });

  it.each([
    [['rtn, 2'], ['rtn, 2']],
    [['*2'], ['rtn, 2', 'gptq, 2']],
    [
      ['no*', 'rtn*'],
      ['rtn, 2', 'no fit'],
    ],
  ])('takes the arms that %j fit', async (arms, names) => {
    const found = await plan({ arms });
    expect(isComputed(found) ? [] : found.arms.map(({ name }) => name)).toEqual(names);
  });

  it.each([
    [{ arms: ['gptq'] }, 'EXPERIMENT_ARMS', "no arm fits 'gptq'; the arms are 'rtn, 2', 'gptq, 2', 'no fit'"],
    [{ arms: ['*', 'r.n*'] }, 'EXPERIMENT_ARMS', "no arm fits 'r.n*'"],
    [{ models: ['tiny', 'tiny'] }, 'EXPERIMENT_ARMS', "two models are 'tiny'"],
    [{ seeds: [1, 2, 1] }, 'EXPERIMENT_ARMS', "two seeds are '1'"],
  ])('refuses %j', async (changes, code, message) => {
    await expect(plan(changes)).rejects.toMatchObject({ code, message: expect.stringContaining(message) as string });
  });

  it('refuses arms that could not be told apart, and evaluators that there are not', async () => {
    const [first] = compared.arms;
    await expect(plan({}, { ...compared, arms: [first, first] })).rejects.toMatchObject({ code: 'EXPERIMENT_ARMS' });
    await expect(plan({}, { ...compared, arms: [{ ...first, name: 'dense' }] })).rejects.toMatchObject({ code: 'EXPERIMENT_ARMS' });
    await expect(plan({}, { ...compared, evaluators: ['txt'] })).rejects.toMatchObject({ code: 'EVALUATOR_UNKNOWN' });
  });

  it('gives a computation seeds and nothing else', async () => {
    expect(await planExperiment('sample/squares', squares, buildRecipe)).toMatchObject({ seeds: [0] });
    const wrong = planExperiment('sample/squares', squares, buildRecipe, { seeds: [1], models: ['tiny'] });
    await expect(wrong).rejects.toMatchObject({
      code: 'EXPERIMENT_OPTIONS',
      message: expect.stringContaining('leave out models') as string,
    });
  });

  it('gives a computation that asks for models those, or other ones', async () => {
    const sizes = { ...squares, models: ['tiny'] };
    expect(await planExperiment('sample/squares', squares, buildRecipe)).toMatchObject({ models: undefined });
    expect(await planExperiment('sample/sizes', sizes, buildRecipe)).toMatchObject({ models: ['tiny'] });
    expect(await planExperiment('sample/sizes', sizes, buildRecipe, { models: ['own'] })).toMatchObject({ models: ['own'] });
    await expect(planExperiment('sample/sizes', sizes, buildRecipe, { models: ['own', 'own'] })).rejects.toMatchObject({
      code: 'EXPERIMENT_ARMS',
    });
    await expect(planExperiment('sample/sizes', sizes, buildRecipe, { window: 8 })).rejects.toMatchObject({ code: 'EXPERIMENT_OPTIONS' });
  });
});

it('inOrder sorts by model, arm and seed, whatever ran first', async () => {
  const row = (model: string, arm: string, seed: number | null) => ({ model, arm, seed });
  const sorted = [
    row('tiny', 'dense', null),
    row('tiny', 'rtn, 2', 0),
    row('tiny', 'rtn, 2', 10),
    row('tiny', 'gptq, 2', 2),
    row('own', 'rtn, 2', 0),
  ];
  expect(inOrder(await plan(), [sorted[4], sorted[2], sorted[3], sorted[1], sorted[0]])).toEqual(sorted);
});
