// The committed runs of the benchmark: complete, with their protocol, and in the order that the documentation says.
import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { readRun } from '../src/folder.js';
import { compare, spreadOf } from '../src/noise.js';
import { cellsOf, planDigest } from '../src/plan.js';
import { isScore, type ScoreRow } from '../src/row.js';

const results = fileURLToPath(new URL('../results', import.meta.url));
const folders = readdirSync(results, { withFileTypes: true }).filter((entry) => entry.isDirectory());

describe.each(folders.map(({ name }) => name))('results/%s', (name) => {
  const run = readRun(`${results}/${name}`);
  const plan = run.record?.plan;
  if (!plan) throw new Error(`${name} has no plan.json`);

  it('has every score of every cell of its plan', () => {
    expect(planDigest(plan)).toBe(run.record?.digest);
    const scores = run.rows.filter(isScore);
    expect(run.rows.filter((row) => !isScore(row) && row.error.code !== 'NOT_APPLICABLE')).toEqual([]);
    for (const { model, recipe, seed } of cellsOf(plan)) {
      const own = scores.filter((row) => row.model === model && row.recipe === recipe && row.seed === seed);
      expect(own.map(({ evaluator }) => evaluator)).toEqual(expect.arrayContaining(['perplexity', 'loss-gap', 'kl', 'top1-agreement']));
    }
  });

  it('says of every score how it was measured', () => {
    for (const row of run.rows.filter(isScore)) {
      expect(Object.keys(row.protocol).length).toBeGreaterThan(0);
      expect(row.commit).toMatch(/^[0-9a-f]{40}$/);
      expect(row.backend).toMatch(/^onnxruntime .* 1 threads$/);
    }
  });

  it('lies with the table that people read', () => expect(existsSync(`${results}/${name}/results.md`)).toBe(true));
});

/** The better one first, by added loss. */
const ORDERS: Readonly<Record<string, readonly (readonly [better: string, worse: string])[]>> = {
  'methods-stories15M': [
    ['gptq-2', 'rtn-2'],
    ['decoupleq-2', 'gptq-2'],
    ['gptq-2+lrec', 'decoupleq-2'],
    ['decoupleq-2+qat', 'gptq-2+lrec'],
    ['rotate-w4a4', 'rtn-w4a4'],
    ['quad-w4a4', 'rotate-w4a4'],
  ],
  'methods-tiny': [
    ['gptq-2', 'rtn-2'],
    ['decoupleq-2', 'gptq-2'],
    ['gptq-2+lrec', 'gptq-2'],
    ['decoupleq-2+qat', 'decoupleq-2'],
    ['decoupleq-2+qat', 'gptq-2+lrec'],
    ['rotate-w4a4', 'rtn-w4a4'],
    ['quad-w4a4', 'rotate-w4a4'],
  ],
  'mix-tiny': [
    ['decoupleq-2', 'rtn-2+qat'],
    ['rtn-2+blocks+scales', 'decoupleq-2'],
    ['decoupleq-2+scales', 'decoupleq-2'],
    ['decoupleq-2+lrec', 'decoupleq-2'],
    ['gptq-4 attention, decoupleq-2 mlp', 'decoupleq-2'],
    ['gptq-4 attention, decoupleq-2 mlp+qat', 'gptq-4 attention, decoupleq-2 mlp'],
    ['quad-w4a4+tune', 'rotate+gptq+qat-w4a4'],
  ],
};

describe.each(Object.entries(ORDERS))('%s', (name, orders) => {
  const rows = readRun(`${results}/${name}`).rows.filter(isScore);
  const gaps = (recipe: string): ScoreRow[] => rows.filter((row) => row.recipe === recipe && row.evaluator === 'loss-gap');

  it.each(orders)('%s adds less loss than %s, by more than noise', (better, worse) => {
    const { difference, isClear } = compare(spreadOf(gaps(better)), spreadOf(gaps(worse)));
    expect(difference).toBeGreaterThan(0);
    expect(isClear).toBe(true);
  });
});
