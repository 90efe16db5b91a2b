// Claims that compare arms: which rows they look at, what they say, and when they are silent.
import { describe, expect, it } from 'vitest';
import { ascends, claimOn, difference, inEverySeed, sampleOf, verdictsOn } from '../src/experiments/index.js';
import type { ExperimentRow } from '../src/index.js';

const arms = { low: { method: 'a' }, high: { method: 'b' } };

function rowsOf(model: string, lows: readonly number[], highs: readonly number[]): ExperimentRow[] {
  return [lows, highs].flatMap((values, arm) =>
    values.map((value, seed) => ({ model, seed, method: 'ab'[arm], 'loss-gap': value, other: 10 * value })),
  );
}

describe('claimOn', () => {
  const claim = claimOn('C', 'low < high', [
    { subject: '2 bits', arms, holds: ascends, figures: ([low, high]) => ({ gain: difference(high, low) }) },
    { arms, field: 'other', holds: ([low]) => inEverySeed(low, (value) => value < 20) },
  ]);

  it('judges each comparison on each model, with arms and figures as evidence', () => {
    const rows = [...rowsOf('toy', [1, 2], [2, 4]), ...rowsOf('large', [1, 5], [2, 4])];
    expect(claim.check(rows)).toEqual([
      { subject: 'toy, 2 bits', holds: true, evidence: 'low 1.5 (1, 2); high 3 (2, 4); gain 1.5 (1, 2)' },
      { subject: 'toy', holds: false, evidence: 'low 15 (10, 20); high 30 (20, 40)' },
      { subject: 'large, 2 bits', holds: false, evidence: 'low 3 (1, 5); high 3 (2, 4); gain 0 (1, -1)' },
      { subject: 'large', holds: false, evidence: 'low 30 (10, 50); high 30 (20, 40)' },
    ]);
  });

  it('is silent about a model without rows of an arm, and fails for what was not measured', () => {
    const rows = rowsOf('toy', [1], [2]);
    expect(claim.check(rows.filter(({ method }) => method === 'a'))).toEqual([]);
    expect(claim.check([])).toEqual([]);
    const unmeasured = rows.map((row) => (row['method'] === 'b' ? { ...row, 'loss-gap': null } : row));
    expect(claim.check(unmeasured).map(({ holds }) => holds)).toEqual([false, true]);
  });
});

it('verdictsOn hands over a list of samples for each field, one sample an arm', () => {
  const rows = rowsOf('toy', [1, 2], [3, 4]);
  const [verdict] = verdictsOn(rows, { arms, fields: ['loss-gap', 'other'] }, (gaps, others) => {
    expect([gaps, others].map((samples) => samples.map(({ mean }) => mean))).toEqual([
      [1.5, 3.5],
      [15, 35],
    ]);
    return { holds: true, evidence: 'seen' };
  });
  expect(verdict).toEqual({ subject: 'toy', holds: true, evidence: 'seen' });
});

it('a difference is taken seed by seed', () => {
  const rows = rowsOf('toy', [1, 5], [2, 3]);
  const [low, high] = Object.values(arms).map((arm) => sampleOf(rows, arm, 'loss-gap'));
  if (!low || !high) throw new Error('rows are missing');
  expect([...difference(low, high).bySeed.values()]).toEqual([-1, 2]);
  expect(inEverySeed(difference(low, high), (value) => value < 0)).toBe(false);
});
