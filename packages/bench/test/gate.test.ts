// The gate's verdicts, and that what is committed belongs to the plan that it runs and would notice a method that does nothing.
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { buildBuiltIn } from '../src/built-in.js';
import {
  expectationOf,
  GATE_SCORES,
  type GateRecord,
  gateDraft,
  gateText,
  judgeOrders,
  judgeScores,
  ORDERS,
  RECORDED_SEEDS,
  recordOf,
} from '../src/gate/gate.js';
import { makePlan, planDigest } from '../src/plan.js';
import { failedRow, scoreRow } from './rows.js';

const row = (recipe: string, evaluator: 'loss-gap' | 'kl', value: number, seed = 0) =>
  scoreRow('gptq', 2, value, { recipe, evaluator, seed, stderr: 0.001 });
const recipes = gateDraft.recipes.map(({ name }) => name);

describe('recordOf', () => {
  it('has both scores of every recipe, seed by seed', () => {
    const rows = RECORDED_SEEDS.flatMap((seed) =>
      recipes.flatMap((name, i) => [row(name, 'loss-gap', i + seed / 8, seed), row(name, 'kl', 0.1234567, seed)]),
    );
    const record = recordOf([...rows, row('dense', 'kl', 0), scoreRow('gptq', 2, 9)]);
    expect(Object.keys(record)).toEqual(recipes);
    expect(record['gptq-2']).toEqual({ 'loss-gap': [1, 1.125, 1.25], kl: [0.123457, 0.123457, 0.123457] });
  });
});

describe('judgeScores', () => {
  // Of the losses no seed changes anything; divergences deviate by 0.01.
  const record = { a: { 'loss-gap': [0.1, 0.1, 0.1], kl: [0.19, 0.2, 0.21] } };

  it.each([
    [0.1019, 'holds'],
    [0.0981, 'holds'],
    [0.1021, 'worse'],
    [0.0979, 'better'],
  ])('%f holds within 2 %% where seeds are equal: %s', (value, verdict) => {
    expect(judgeScores(record, [row('a', 'loss-gap', value), row('a', 'kl', 0.2)])).toMatchObject([
      { recipe: 'a', score: 'loss-gap', recorded: expect.closeTo(0.1) as number, measured: value, verdict },
      { recipe: 'a', score: 'kl', verdict: 'holds' },
    ]);
  });

  it.each([
    [0.229, 'holds'],
    [0.171, 'holds'],
    [0.231, 'worse'],
    [0.169, 'better'],
  ])('%f holds within three deviations of seeds: %s', (value, verdict) => {
    expect(judgeScores(record, [row('a', 'loss-gap', 0.1), row('a', 'kl', value)])).toMatchObject([{ verdict: 'holds' }, { verdict }]);
  });

  it('misses what has no score, and says why', () => {
    const rows = [{ ...failedRow('gptq', 2, 'CHOLESKY'), recipe: 'a' }];
    const lines = judgeScores(record, rows);
    expect(lines).toMatchObject([
      { recipe: 'a', measured: undefined, verdict: 'failed' },
      { recipe: 'a', measured: undefined, verdict: 'failed' },
    ]);
    expect(gateText(lines, judgeOrders(rows), rows)).toContain('- a: CHOLESKY: somewhere');
  });
});

describe('judgeOrders', () => {
  const ranked = (values: Readonly<Record<string, number>>) => judgeOrders(recipes.map((name) => row(name, 'kl', values[name] ?? 1)));
  const holding = (values: Readonly<Record<string, number>>): string[] =>
    ranked(values).flatMap(({ better, holds }) => (holds ? [better] : []));

  it('holds where a method is better than what it starts from by more than noise', () => {
    expect(holding({ 'decoupleq-2+qat': 0.5 })).toEqual(['decoupleq-2+qat']);
    // The error of a difference is 0.0014.
    expect(holding({ 'decoupleq-2+qat': 0.998 })).toEqual([]);
    expect(holding({ 'decoupleq-2+qat': 1.5 })).toEqual([]);
  });

  it('is broken where one failed', () => {
    expect(judgeOrders([row('gptq-2', 'kl', 1)])[0]).toEqual({ better: 'gptq-2', worse: 'rtn-2', comparison: undefined, holds: false });
  });
});

describe('losses.json', () => {
  const record = JSON.parse(readFileSync(new URL('../src/gate/losses.json', import.meta.url), 'utf8')) as GateRecord;

  it('is of the recipes, text and versions of methods that the gate runs, and of code that is committed', async () => {
    expect(record.digest).toBe(planDigest(await makePlan(gateDraft, buildBuiltIn)));
    expect(Object.keys(record.recipes)).toEqual(recipes);
    expect(record.commit).toMatch(/^[0-9a-f]{40}$/);
    expect(record.seeds).toEqual(RECORDED_SEEDS.slice(0, record.seeds.length));
    expect(record.seeds).toContain(gateDraft.seeds[0]);
    for (const scores of Object.values(record.recipes))
      for (const score of GATE_SCORES) expect(scores[score]).toHaveLength(record.seeds.length);
  });

  it.each(ORDERS)('would notice a %s that is no better than %s', (better, worse) => {
    const [own, start] = [record.recipes[better], record.recipes[worse]];
    const { mean, margin } = expectationOf(own.kl);
    expect(mean + margin).toBeLessThan(expectationOf(start.kl).mean);
    // With every seed, not with the first alone.
    for (const [i, value] of own.kl.entries()) expect(value).toBeLessThan(start.kl[i]);
  });
});
