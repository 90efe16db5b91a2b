// Experiments from end to end: arms on the embedded model, and computations.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import type {
  ArmOutcome,
  Backend,
  ComputedExperiment,
  ExperimentContext,
  ExperimentModel,
  ExperimentRow,
  RecipeExperiment,
  StudyContext,
  StudyExperiment,
} from '@lowbit/core';
import { generate } from '@lowbit/models';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { planExperiment } from '../src/experiment/plan.js';
import { reportExperiment } from '../src/experiment/report.js';
import { isFailed, isText, resultsIn } from '../src/experiment/rows.js';
import { runExperiment } from '../src/experiment/run-experiment.js';
import { settingsOf } from '../src/experiment/settings.js';
import { resolveModel } from '../src/model-reference.js';
import type { BenchProgress } from '../src/outcome.js';
import { buildRecipe, compared, squares } from './experiments.js';

let backend: Backend;
beforeAll(async () => {
  backend = await createOnnxBackend({ threads: 1 });
});
afterAll(() => backend.dispose());

const directory = process.cwd();

it('judges by a task, without text where no evaluator reads any', async () => {
  const task = { source: 'sotu-era', length: 48, limit: { train: 8, dev: 8 } } as const;
  const arms = compared.arms.filter(({ name }) => name === 'rtn, 2');
  const plan = await planExperiment('sample/task', { ...compared, arms, evaluators: ['task'], seeds: [0], task }, buildRecipe);
  expect(settingsOf(plan, backend)).toMatchObject({ task, evaluators: ['task'] });
  const notes: string[] = [];
  const onProgress = (progress: BenchProgress) => progress.type === 'note' && notes.push(progress.text);
  const [dense, rounded] = await runExperiment(plan, { backend, directory, onProgress });
  for (const row of [dense, rounded])
    expect(row).toMatchObject({ 'task-accuracy': expect.any(Number) as number, 'task-loss': expect.any(Number) as number });
  expect(notes).toEqual([expect.stringMatching(/tiny: task: sotu-era .* 8 of 5003 examples/)]);
});

describe('arms on tiny', () => {
  const outcomes: ArmOutcome[] = [];
  const handed: { rows: readonly ExperimentRow[]; left: number }[] = [];
  const notes: string[] = [];
  let rows: ExperimentRow[];
  beforeAll(async () => {
    const rowsOf = (outcome: ArmOutcome): ExperimentRow[] => {
      outcomes.push(outcome);
      if (outcome.arm.name === 'gptq, 2' && outcome.seed === 1) throw new Error('not this one');
      return [{ ...outcome.arm.parameters, ...outcome.scores, logged: outcome.logs.length }];
    };
    const plan = await planExperiment('sample/compared', { ...compared, rowsOf }, buildRecipe, { window: 32 });
    rows = await runExperiment(plan, {
      backend,
      directory,
      onRows: (own, left) => handed.push({ rows: own, left }),
      onProgress: (progress: BenchProgress) => progress.type === 'note' && notes.push(progress.text),
    });
  });

  it('has a row for the dense model and one for each arm and seed, as they come', () => {
    expect(rows.map(({ model, arm, seed }) => `${model} ${arm} ${seed}`)).toEqual([
      'tiny dense null',
      'tiny rtn, 2 0',
      'tiny rtn, 2 1',
      'tiny gptq, 2 0',
      'tiny gptq, 2 1',
      'tiny no fit 0',
      'tiny no fit 1',
    ]);
    expect(handed.flatMap((one) => one.rows)).toEqual(rows);
    expect(handed.map(({ left }) => left)).toEqual([6, 5, 4, 3, 2, 1, 0]);
    expect(rows[0]).toMatchObject({ bitsPerWeight: 16, 'loss-gap': 0 });
  });

  it('hands the experiment scores and logs of the arm and seed, and takes its rows', () => {
    expect(outcomes.map(({ arm, model, seed }) => [arm.name, model, seed])).toEqual([
      ['rtn, 2', 'tiny', 0],
      ['rtn, 2', 'tiny', 1],
      ['gptq, 2', 'tiny', 0],
      ['gptq, 2', 'tiny', 1],
    ]);
    const [rounded, , fed] = outcomes;
    expect(Object.keys(rounded.scores)).toEqual(['perplexity', 'kl', 'top1-agreement', 'loss-gap']);
    expect(rounded.logs).toEqual([]);
    expect(new Set(fed.logs.map(({ path }) => path)).size).toBe(fed.logs.length);
    expect(fed.logs[0]).toMatchObject({ path: expect.stringContaining('q_proj'), record: { loss: expect.any(Number) as number } });
    expect(rows[3]).toMatchObject({ method: 'gptq', logged: fed.logs.length, bitsPerWeight: expect.any(Number) as number });
  });

  it('calibrates each arm on its own number of windows', () => {
    expect(notes.filter((note) => note.includes('calibrated'))).toHaveLength(2);
    expect(notes.find((note) => note.includes('calibrated'))).toContain('8 windows');
  });

  it('goes on after arms and rows that fail', () => {
    const failed = rows.filter(isFailed);
    expect(failed.map(({ arm, seed }) => [arm, seed])).toEqual([
      ['gptq, 2', 1],
      ['no fit', 0],
      ['no fit', 1],
    ]);
    expect(failed[0]).toMatchObject({ method: 'gptq', failure: expect.stringContaining('not this one') as string });
    expect(failed[1]).toMatchObject({ method: 'none', failure: expect.stringContaining('GROUP_SIZE') as string });
  });

  it('reports means, claims and failures', async () => {
    const plan = await planExperiment('sample/compared', compared, buildRecipe);
    const { summary, document, claims } = reportExperiment(plan, rows, 'figure.svg');
    expect(summary).toMatch(/^Dense: tiny perplexity [\d.]+\.\n/);
    expect(summary).toMatch(/\| model \| +rtn \| +gptq \|\n.*\n\| tiny {2}\| .*\d \|/);
    expect(summary).toContain('C1: gptq adds less loss than rtn\n');
    expect(summary).toMatch(/Failed:\n\n- tiny, gptq, 2, seed 1: .*not this one\n- tiny, no fit, seed 0: GROUP_SIZE/);
    expect(document).toMatch(/^# sample\/compared: Two methods\n[\s\S]*Source: this test\.[\s\S]*!\[Two methods\]\(figure\.svg\)/);
    expect(document).toContain('Models: tiny; seeds: 0, 1; calibrated on 4 windows');
    expect(claims).toHaveLength(1);
  });

  it('does not run what is known', async () => {
    const plan = await planExperiment('sample/compared', compared, buildRecipe, { window: 32, seeds: [0], arms: ['rtn*'] });
    expect(await runExperiment(plan, { backend, directory, known: rows })).toEqual([]);
    const known = rows.filter(({ arm }) => arm !== 'rtn, 2');
    const [row, ...others] = await runExperiment(plan, { backend, directory, known });
    expect(others).toEqual([]);
    // Rows that the experiment does not make itself have its parameters and all scores.
    expect(row).toEqual({ ...rows[1], logged: undefined, 'top1-agreement': expect.any(Number) as number, seconds: row['seconds'] });
  });

  it('stops when it is told to', async () => {
    const plan = await planExperiment('sample/compared', compared, buildRecipe, { window: 32 });
    const stopped = runExperiment(plan, { backend, directory, signal: AbortSignal.abort() });
    await expect(stopped).rejects.toMatchObject({ code: 'ABORTED' });
  });
});

describe('samples', () => {
  const outcomes: ArmOutcome[] = [];
  const samples = { prompts: ['The state of', ''], maxTokens: 6 };
  const experiment: RecipeExperiment = { ...compared, seeds: [0], arms: compared.arms.slice(0, 1), samples };
  const run = async (changes: Partial<RecipeExperiment> = {}) => {
    const plan = await planExperiment('sample/compared', { ...experiment, ...changes }, buildRecipe, { window: 32 });
    return { plan, rows: await runExperiment(plan, { backend, directory }) };
  };
  const textsOf = (rows: readonly ExperimentRow[]) => rows.filter(isText).map(({ arm, prompt, text }) => [arm, prompt, text]);

  it('are rows of their own for every arm and the dense model, and no results', async () => {
    const rowsOf = (outcome: ArmOutcome): ExperimentRow[] => {
      outcomes.push(outcome);
      return [{ ...outcome.scores }];
    };
    const { plan, rows } = await run({ rowsOf });
    expect(rows.map((row) => [row['arm'], row['prompt']])).toEqual(
      ['dense', 'rtn, 2'].flatMap((arm) => [undefined, ...samples.prompts].map((prompt) => [arm, prompt])),
    );
    expect(rows[4]).toEqual({ model: 'tiny', arm: 'rtn, 2', seed: 0, method: 'rtn', prompt: 'The state of', text: rows[4]['text'] });
    expect(outcomes[0].texts).toEqual(rows.slice(4).map(({ prompt, text }) => ({ prompt, text })));
    expect(resultsIn(rows)).toEqual([rows[3]]);

    const { model, tokenizer } = await resolveModel('tiny');
    const prompt = tokenizer.encode('The state of', { bos: tokenizer.addsBos });
    const [written] = await generate(model, backend, { prompts: [prompt], maxTokens: 6, stopToken: tokenizer.eosToken });
    expect(`The state of${String(rows[1]['text'])}`).toBe(tokenizer.decode([...prompt, ...written]));

    const { summary } = reportExperiment(plan, rows);
    expect(summary).toMatch(/\n\nTexts:\n\n- tiny, dense: \*\*The state of\*\* .*\n- tiny, dense: .*\n- tiny, rtn, 2, seed 0: \*\*The/);
  });

  it('are drawn with a temperature, the same numbers whatever the arm, and end with the context', async () => {
    const twice = compared.arms.slice(0, 1).flatMap((arm) => [arm, { ...arm, name: 'again' }]);
    const { rows } = await run({ arms: twice, samples: { prompts: [''], maxTokens: 1e6, temperature: 0.9 } });
    const texts = textsOf(rows);
    expect(texts.map(([arm]) => arm)).toEqual(['dense', 'rtn, 2', 'again']);
    expect(texts[1][2]).toBe(texts[2][2]);
    expect(texts[0][2]).not.toBe(texts[1][2]);
    // As much as the context holds, three times.
  }, 600_000);

  it('that cannot be written fail the cell', async () => {
    const { rows } = await run({ samples: { prompts: ['word '.repeat(2000)], maxTokens: 6 } });
    expect(rows.filter(isFailed).map(({ arm, failure }) => [arm, failure.split(':')[0]])).toEqual([
      ['dense', 'CONTEXT_LENGTH'],
      ['rtn, 2', 'CONTEXT_LENGTH'],
    ]);
  });
});

describe('studies', () => {
  const [rounded] = compared.arms;
  const unchanged = { name: 'unchanged', recipe: [], parameters: { method: 'none' } };
  const run = async (study: StudyExperiment['study'], changes: Partial<StudyExperiment> = {}, signal?: AbortSignal) => {
    const experiment: StudyExperiment = { ...compared, arms: [unchanged, rounded], seeds: [0], study, ...changes };
    const plan = await planExperiment('sample/study', experiment, buildRecipe, { window: 32 });
    return { plan, rows: await runExperiment(plan, { backend, directory, signal }) };
  };

  it('are given the models of each arm, and judge others on the same text', async () => {
    const given: StudyContext[] = [];
    const { plan, rows } = await run(
      async (context) => {
        given.push(context);
        const { outcome, dense, quantized, scoresOf, rng } = context;
        const [again, before] = [await scoresOf(quantized), await scoresOf(dense)];
        const { 'loss-gap': calibrated } = await scoresOf(quantized, 'calibration');
        const own = { gap: outcome.scores['loss-gap'], again: again['loss-gap'], before: before['loss-gap'], calibrated };
        return [1, 2].map((n) => ({ method: outcome.arm.name, n, ...own, draw: rng.uniform(1)[0] }));
      },
      { evaluators: ['layer-error'] },
    );
    // Whatever else the arms are judged by: a study judges by text.
    expect(plan).toMatchObject({ evaluators: ['text', 'layer-error'] });
    expect(rows.map(({ arm, seed, n }) => [arm, seed, n])).toEqual([
      ['dense', null, undefined],
      ['unchanged', 0, 1],
      ['unchanged', 0, 2],
      ['rtn, 2', 0, 1],
      ['rtn, 2', 0, 2],
    ]);
    const [bare, ofRounded] = given;
    expect(bare.quantized).toBe(bare.dense);
    expect(ofRounded.outcome.scores).toMatchObject({ 'layer-error': expect.any(Number) as number });
    expect(rows[1]).toMatchObject({ gap: 0, again: 0, before: 0, calibrated: 0, bitsPerWeight: 16 });
    expect(rows[3]).toMatchObject({ before: 0, again: rows[3]['gap'] });
    expect(Number(rows[3]['gap'])).toBeGreaterThan(0);
    expect(rows[3]['calibrated']).toEqual(expect.any(Number));
    expect(rows[3]['calibrated']).not.toBe(rows[3]['gap']);
    expect(rows[3]['draw']).toBe(rows[1]['draw']);
  });

  it('quantize by other recipes, with the text of their arm, and measure each Linear', async () => {
    const { rows } = await run(async ({ quantize, quantized, layerErrors, outcome }) => {
      const other = await quantize([{ method: 'gptq', options: { bits: 2, targets: ['**.q_proj'] } }]);
      const errors = await Promise.all([quantized, other].map((model) => layerErrors(model)));
      const ofQuery = errors.map((layers) => Object.entries(layers).filter(([path]) => path.endsWith('q_proj')));
      expect(Object.values(errors[0]).filter((error) => error > 0)).toHaveLength(outcome.arm === rounded ? 6 : 0);
      expect(ofQuery.map((layers) => layers.length)).toEqual([6, 6]);
      expect(outcome.logs).toEqual([]);
      return [{ errors: ofQuery.map((layers) => layers.reduce((sum, [, error]) => sum + error, 0)).join(' ') }];
    });
    expect(rows.filter(isFailed)).toEqual([]);
    const [own, other] = String(rows[2]['errors']).split(' ').map(Number);
    expect(other).toBeLessThan(own);
    expect(other).toBe(Number(String(rows[1]['errors']).split(' ')[1]));
  });

  it('that fail are rows with what the arm varies and its scores, and stop when they are told to', async () => {
    const { rows } = await run(({ outcome, quantize }) =>
      outcome.arm === rounded ? quantize([{ method: 'rtn', options: { groupSize: 24 } }]).then(() => []) : Promise.resolve([{ n: 1 }]),
    );
    expect(rows.slice(1)).toEqual([
      expect.objectContaining({ arm: 'unchanged', n: 1 }),
      expect.objectContaining({
        arm: 'rtn, 2',
        method: 'rtn',
        'loss-gap': expect.any(Number),
        failure: expect.stringMatching(/GROUP_SIZE/),
      }),
    ]);
    const controller = new AbortController();
    const stopped = run(
      async () => {
        controller.abort();
        throw new Error('half way');
      },
      {},
      controller.signal,
    );
    await expect(stopped).rejects.toMatchObject({ code: 'ABORTED' });
  });
});

describe('computations', () => {
  it('run once a seed, and the seed decides what is drawn', async () => {
    const plan = await planExperiment('sample/squares', squares, buildRecipe, { seeds: [4, 5] });
    const rows = await runExperiment(plan, { backend, directory });
    expect(rows.map(({ seed, x, y }) => [seed, x, y])).toEqual([4, 5].flatMap((seed) => [1, 2, 3].map((x) => [seed, x, x * x])));
    expect(new Set(rows.map(({ draw }) => draw)).size).toBe(2);
    // What an experiment measures may be called an error.
    expect(rows.filter(isFailed)).toEqual([]);
    expect(await runExperiment(plan, { backend, directory, known: rows.slice(0, 3) })).toEqual(rows.slice(3));
  });

  it('are told of the models that they ask for; a directory with a config.json is one', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'lowbit-bench-'));
    mkdirSync(join(folder, 'sizes'));
    const { model, checkpoint } = await resolveModel('tiny');
    writeFileSync(join(folder, 'sizes', 'config.json'), JSON.stringify({ ...checkpoint.config, hidden_size: 384 }));
    const told: (readonly ExperimentModel[] | undefined)[] = [];
    const compute = async ({ models }: ExperimentContext): Promise<ExperimentRow[]> => {
      told.push(models);
      return [];
    };
    const sizes = { ...squares, models: ['tiny'], compute };
    const run = async (experiment: ComputedExperiment, models?: readonly string[]) =>
      runExperiment(await planExperiment('sample/sizes', experiment, buildRecipe, { models }), { backend, directory: folder });
    try {
      await run({ ...squares, compute });
      await run(sizes);
      await run(sizes, ['sizes']);
      await expect(run(sizes, ['nothing'])).rejects.toMatchObject({ code: 'MODEL_REFERENCE' });
    } finally {
      rmSync(folder, { recursive: true });
    }
    const [none, named, other] = told;
    expect(none).toBeUndefined();
    const elements = [...checkpoint.entries.values()].map(({ shape }) => shape.reduce((product, n) => product * n, 1));
    expect(named).toEqual([{ name: 'tiny', config: model.config, tensorBytes: 2 * elements.reduce((a, b) => a + b, 0) }]);
    expect(other).toMatchObject([{ name: 'sizes', config: { hiddenSize: 384, blockCount: 6 }, tensorBytes: null }]);
  });

  it('leave out models of their own that are not installed', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'lowbit-bench-'));
    const [notes, told]: [string[], string[]] = [[], []];
    const compute = async ({ models = [] }: ExperimentContext): Promise<ExperimentRow[]> => {
      told.push(...models.map(({ name }) => name));
      return [];
    };
    const sizes = { ...squares, models: ['tiny', 'stories15M'], compute };
    const onProgress = (progress: BenchProgress) => progress.type === 'note' && notes.push(progress.text);
    const run = async (models?: readonly string[]) =>
      runExperiment(await planExperiment('sample/sizes', sizes, buildRecipe, { models }), { backend, directory: folder, onProgress });
    try {
      await run();
      await expect(run(['stories15M'])).rejects.toMatchObject({ code: 'MODEL_NOT_INSTALLED' });
    } finally {
      rmSync(folder, { recursive: true });
    }
    expect(told).toEqual(['tiny']);
    expect(notes).toEqual([expect.stringMatching(/^left out: MODEL_NOT_INSTALLED: stories15M is not installed.*npm i/) as string]);
  });

  it('that fail are rows, and numbers that JSON cannot hold are null', async () => {
    const compute = async (): Promise<ExperimentRow[]> => [{ y: Number.POSITIVE_INFINITY }];
    const infinite = await planExperiment('sample/squares', { ...squares, compute }, buildRecipe);
    expect(await runExperiment(infinite, { backend, directory })).toEqual([{ seed: 0, y: null }]);
    const failing = { ...squares, compute: () => Promise.reject(new Error('no luck')) };
    const rows = await runExperiment(await planExperiment('sample/squares', failing, buildRecipe), { backend, directory });
    expect(rows).toEqual([{ seed: 0, failure: expect.stringContaining('no luck') as string }]);
  });
});
