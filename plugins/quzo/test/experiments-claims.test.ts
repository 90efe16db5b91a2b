// Claims on rows made up for the purpose: each holds where it should and fails where it should.
import type { ClaimVerdict, ExperimentRow } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { experiments } from '../src/experiments/index.js';

function check(experiment: string, name: string, rows: readonly ExperimentRow[]): readonly ClaimVerdict[] {
  const claim = experiments.find((one) => one.name === experiment)?.claims?.find((one) => one.name === name);
  if (!claim) throw new Error(`${experiment} has no claim '${name}'`);
  return claim.check(rows);
}

const holds = (verdicts: readonly ClaimVerdict[]): boolean[] => verdicts.map((verdict) => verdict.holds);

/** Three seeds of a row, whose gap differs by a hundredth from seed to seed. */
function seeded(row: ExperimentRow, gap: number, spread = 0.01): ExperimentRow[] {
  return [0, 1, 2].map((seed) => ({ model: 'tiny', changed: 0.1, ...row, seed, 'loss-gap': gap + spread * (seed - 1) }));
}

/** With some fields of some rows replaced. */
function changed(rows: readonly ExperimentRow[], where: ExperimentRow, fields: ExperimentRow): ExperimentRow[] {
  const isMeant = (row: ExperimentRow): boolean => Object.entries(where).every(([name, value]) => row[name] === value);
  expect(rows.some(isMeant)).toBe(true);
  return rows.map((row) => (isMeant(row) ? { ...row, ...fields } : row));
}

describe('adaptation', () => {
  const gaps = { none: 0.05, 'ZO-LoRA': -0.2, 'scales (QZO)': -0.3, 'codes, error feedback': -0.4, 'codes, stochastic rounding': -0.1 };
  const rows: ExperimentRow[] = [
    ...seeded({ base: 'float32', training: 'float weights (MeZO)' }, -0.4, 0.02),
    ...['INT8', 'INT4'].flatMap((base) => [
      ...Object.entries(gaps).flatMap(([training, gap]) => seeded({ base, training }, gap)),
      ...seeded({ base, training: 'codes, nearest', changed: 0 }, gaps.none),
    ]),
  ].map((row) => ({ ...row, ...(row['training'] === 'none' && { changed: null }) }));
  const of = (name: string, where: ExperimentRow, fields: ExperimentRow) => holds(check('adaptation', name, changed(rows, where, fields)));

  it('holds for what the specification expects', () => {
    for (const name of ['B6-adapters', 'B6-scales', 'B6-codes', 'B7-sr'])
      expect(holds(check('adaptation', name, rows))).toEqual([true, true]);
    expect(holds(check('adaptation', 'B7', rows))).toEqual([true]);
  });

  it('says what it rests on, and what the test could tell', () => {
    const [verdict] = check(
      'adaptation',
      'B6-adapters',
      changed(rows, { base: 'INT8', training: 'ZO-LoRA', seed: 1 }, { 'loss-gap': -0.23 }),
    );
    // Gains of 0.25, 0.28, 0.25: a deviation of 0.0173, t of 2.92 with two degrees of freedom.
    expect(verdict.subject).toBe('tiny, INT8, ZO-LoRA');
    expect(verdict.evidence).toContain('0.26 less, 0.0292 less would be significant');
  });

  it('asks for a fall that seeds agree on', () => {
    const adapters = { base: 'INT8', training: 'ZO-LoRA' };
    expect(of('B6-adapters', { ...adapters, seed: 0 }, { 'loss-gap': 0.2 })).toEqual([false, true]);
    expect(of('B6-adapters', adapters, { 'loss-gap': 0.1 })).toEqual([false, true]);
    expect(of('B6-scales', { base: 'INT4', training: 'scales (QZO)', seed: 2 }, { 'loss-gap': null })).toEqual([true, false]);
    const alone = rows.filter((row) => row['seed'] === 0);
    expect(holds(check('adaptation', 'B6-adapters', alone))).toEqual([false, false]);
  });

  it('lets codes learn less or more than floats by what seeds differ by, 0.026', () => {
    const codes = { base: 'INT8', training: 'codes, error feedback' };
    const shifted = (by: number) =>
      holds(check('adaptation', 'B6-codes', [...rows.filter((row) => row['training'] !== codes.training), ...seeded(codes, -0.4 + by)]));
    expect(shifted(0.025)).toEqual([true, true]);
    expect(shifted(0.027)).toEqual([false, true]);
    expect(shifted(-0.025)).toEqual([true, true]);
    expect(shifted(-0.3)).toEqual([true, false]);
  });

  it('B7 allows no change at all to rounding to nearest', () => {
    const nearest = { base: 'INT4', training: 'codes, nearest', seed: 1 };
    expect(of('B7', nearest, { changed: 1e-9 })).toEqual([false]);
    expect(of('B7', nearest, { 'loss-gap': 0.0500001 })).toEqual([false]);
    expect(of('B7', { base: 'INT4', training: 'codes, error feedback' }, { 'loss-gap': 0.05 })).toEqual([false]);
  });

  it('B7-sr compares error feedback with stochastic rounding', () => {
    expect(of('B7-sr', { base: 'INT8', training: 'codes, stochastic rounding' }, { 'loss-gap': -0.41 })).toEqual([false, true]);
  });
});

describe('rounding', () => {
  const rules = { nearest: 0, 'stochastic rounding': 0.2, 'error feedback': 0.01 };
  const rows = ['INT8', 'INT4'].flatMap((base) =>
    [0.1, 0.3, 1, 3].flatMap((rate) =>
      Object.entries(rules).flatMap(([rounding, share]) => {
        const gap = (rounding === 'error feedback' ? -0.3 : 0.1) + 0.1 * Math.abs(rate - 1);
        return seeded({ base, rounding, rate, changed: share }, gap);
      }),
    ),
  );
  const of = (name: string, where: ExperimentRow, fields: ExperimentRow) => holds(check('rounding', name, changed(rows, where, fields)));

  it('B3 is about steps below half a code: small ones of 8 bits, all but the largest of 4 bits', () => {
    expect(check('rounding', 'B3', rows).map(({ subject, holds }) => [subject, holds])).toEqual([
      ['tiny, INT8, rate 0.1', true],
      ['tiny, INT4, rate 0.3', true],
      ['tiny, INT4, rate 1', true],
    ]);
    expect(of('B3', { base: 'INT4', rounding: 'nearest', rate: 1, seed: 2 }, { changed: 1e-7 })).toEqual([true, true, false]);
    expect(of('B3', { base: 'INT8', rounding: 'error feedback', rate: 0.1, seed: 2 }, { changed: 0 })).toEqual([false, true, true]);
    expect(of('B3', { base: 'INT8', rounding: 'nearest', rate: 3 }, { changed: 1 })).toEqual([true, true, true]);
  });

  it('compares error feedback and stochastic rounding at their best rates', () => {
    expect(holds(check('rounding', 'feedback', rows))).toEqual([true, true]);
    expect(of('feedback', { base: 'INT8', rounding: 'stochastic rounding', rate: 3 }, { 'loss-gap': -0.4 })).toEqual([false, true]);
  });
});

describe('tiny-tasks', () => {
  const after: Readonly<Record<string, readonly [number, number]>> = {
    'none (before)': [1.4, 0.54],
    'LoRA by gradients (EMEF)': [0.5, 0.75],
    'ZO-LoRA': [0.66, 0.62],
    'scales (QZO)': [0.66, 0.62],
    'codes, error feedback': [0.65, 0.63],
  };
  const rows = ['INT8', 'INT4'].flatMap((base) =>
    Object.entries(after).flatMap(([training, [loss, accuracy]]) =>
      [-1, 0, 1].map((by, seed) => ({
        model: 'tiny',
        base,
        training,
        seed,
        'task-loss': loss + by / 100,
        'task-accuracy': accuracy + by / 100,
      })),
    ),
  );
  const of = (name: string, where: ExperimentRow, fields: ExperimentRow) => holds(check('tiny-tasks', name, changed(rows, where, fields)));

  it('asks every way to learn, in loss and in accuracy, at 8 and at 4 bits', () => {
    for (const name of ['task-loss', 'task-accuracy']) expect(holds(check('tiny-tasks', name, rows))).toEqual(Array(6).fill(true));
    const codes = { base: 'INT4', training: 'codes, error feedback' };
    expect(of('task-loss', codes, { 'task-loss': 1.5 })).toEqual([true, true, true, true, true, false]);
    expect(of('task-accuracy', { ...codes, seed: 1 }, { 'task-accuracy': 0.4 })).toEqual([true, true, true, true, true, false]);
  });

  it('claims that gradients learn more', () => {
    expect(holds(check('tiny-tasks', 'gradients', rows))).toEqual([true, true]);
    expect(of('gradients', { base: 'INT8', training: 'ZO-LoRA' }, { 'task-loss': 0.4 })).toEqual([false, true]);
  });
});
