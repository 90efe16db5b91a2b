// The gate's verdicts, and that what is committed belongs to the plan that it runs.
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { buildBuiltIn } from '../src/built-in.js';
import { type GateRecord, gateDraft, gateText, judgeLosses, lossesOf } from '../src/gate/gate.js';
import { makePlan, planDigest } from '../src/plan.js';
import { failedRow, scoreRow } from './rows.js';

const gap = (recipe: string, value: number, seed = 0) => scoreRow('gptq', 2, value, { recipe, evaluator: 'loss-gap', seed });

describe('lossesOf', () => {
  it('are means over seeds with four deviations between them, and some room where no seed changes anything', () => {
    const rows = [
      gap('a', 0.1),
      gap('a', 0.12, 1),
      gap('a', 0.14, 2),
      gap('b', 0.5),
      gap('b', 0.5, 1),
      gap('dense', 0),
      scoreRow('a', 2, 9),
    ];
    expect(lossesOf(rows)).toEqual({
      a: { loss: 0.12, deviation: 0.02, tolerance: 0.08 },
      b: { loss: 0.5, deviation: 0, tolerance: 0.01 },
    });
  });
});

describe('judgeLosses', () => {
  const losses = { a: { loss: 0.12, deviation: 0.02, tolerance: 0.08 } };

  it.each([
    [0.199, 'holds'],
    [0.041, 'holds'],
    [0.201, 'worse'],
    [0.039, 'better'],
  ])('%f %s', (value, verdict) => {
    expect(judgeLosses(losses, [gap('a', value)])).toMatchObject([{ recipe: 'a', measured: value, verdict }]);
  });

  it('misses what has no loss, and says why', () => {
    const rows = [{ ...failedRow('gptq', 2, 'CHOLESKY'), recipe: 'a' }];
    const lines = judgeLosses(losses, rows);
    expect(lines).toMatchObject([{ recipe: 'a', measured: undefined, verdict: 'failed' }]);
    expect(gateText(lines, rows)).toContain('- a: CHOLESKY: somewhere');
  });
});

const file = new URL('../src/gate/losses.json', import.meta.url);

// Where none are committed, the gate says so itself.
describe.skipIf(!existsSync(file))('losses.json', () => {
  it('is of the recipes, text and versions of methods that the gate runs', async () => {
    const { digest, losses } = JSON.parse(readFileSync(file, 'utf8')) as GateRecord;
    expect(digest).toBe(planDigest(await makePlan(gateDraft, buildBuiltIn)));
    expect(Object.keys(losses)).toEqual(gateDraft.recipes.map(({ name }) => name));
  });
});
