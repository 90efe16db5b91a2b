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

/** Three seeds of a row, whose numbers differ by a percent from seed to seed. */
function seeded(row: ExperimentRow, measures: Readonly<Record<string, number>>): ExperimentRow[] {
  return [0, 1, 2].map((seed) => {
    const values = Object.entries(measures).map(([name, value]) => [name, value * (1 + 0.01 * (seed - 1))]);
    return { model: 'tiny', ...row, seed, ...Object.fromEntries(values) };
  });
}

/** Rows of arms by two fields, from losses by the values of both. */
function grid(first: string, second: string, losses: Readonly<Record<string, Readonly<Record<string, number>>>>): ExperimentRow[] {
  const valueOf = (key: string): string | number => (/^\d+$/.test(key) ? Number(key) : key);
  return Object.entries(losses).flatMap(([a, inner]) =>
    Object.entries(inner).flatMap(([b, gap]) => seeded({ [first]: valueOf(a), [second]: valueOf(b) }, { 'loss-gap': gap })),
  );
}

/** With some fields of some rows replaced. */
function changed(rows: readonly ExperimentRow[], where: ExperimentRow, fields: ExperimentRow): ExperimentRow[] {
  const isMeant = (row: ExperimentRow): boolean => Object.entries(where).every(([name, value]) => row[name] === value);
  expect(rows.some(isMeant)).toBe(true);
  return rows.map((row) => (isMeant(row) ? { ...row, ...fields } : row));
}

const gapOf = (loss: number | null): ExperimentRow => ({ 'loss-gap': loss });

describe('gap', () => {
  const rows = grid('bits', 'method', {
    2: { RTN: 0.47, GPTQ: 0.23, decoupleQ: 0.11, 'QAT from rounding': 0.12, 'decoupleQ + QAT': 0.07 },
    3: { RTN: 0.064, GPTQ: 0.033, decoupleQ: 0.023, 'QAT from rounding': 0.02, 'decoupleQ + QAT': 0.015 },
    4: { RTN: 0.0117, GPTQ: 0.0066, decoupleQ: 0.0043, 'QAT from rounding': 0.004, 'decoupleQ + QAT': 0.0035 },
    8: { RTN: 1e-4, GPTQ: 5e-5, 'QAT from rounding': 4e-5 },
  });
  const of = (claim: string, where: ExperimentRow, loss: number | null) => holds(check('gap', claim, changed(rows, where, gapOf(loss))));
  const straight = 'QAT from rounding';

  it('holds for what the specification expects', () => {
    expect(check('gap', 'Q1-order', rows).map(({ subject, holds }) => [subject, holds])).toEqual([
      ['tiny, 2 bits', true],
      ['tiny, 3 bits', true],
    ]);
    for (const claim of ['Q1-gap', 'bar-2']) expect(holds(check('gap', claim, rows)), claim).toEqual([true]);
    expect(holds(check('gap', 'bar-4', rows))).toEqual([true, true]);
    expect(check('gap', 'Q1-gap', rows)[0].evidence).toMatch(
      /; 8 bits: 0\.00001 .*; 4 bits: 0\.0026 .*; 3 bits: 0\.013 .*; 2 bits: 0\.11 /,
    );
  });

  it.each([
    ['training no better than GPTQ with one seed', { method: straight, bits: 2, seed: 1 }, 0.24],
    ['GPTQ no better than rounding', { method: 'GPTQ', bits: 2, seed: 0 }, 0.5],
    ['a loss that was not measured', { method: straight, bits: 2, seed: 2 }, null],
  ])('Q1-order fails for %s', (_, where, loss) => {
    expect(of('Q1-order', where, loss)).toEqual([false, true]);
  });

  it('Q1-gap fails where one seed has a larger gap at more bits', () => {
    expect(of('Q1-gap', { method: straight, bits: 4, seed: 1 }, -0.01)).toEqual([false]);
    expect(of('Q1-gap', { method: straight, bits: 8, seed: 1 }, null)).toEqual([false]);
  });

  it('bar-2 asks for less than decoupleQ and half of GPTQ', () => {
    const trained = { method: 'decoupleQ + QAT', bits: 2, seed: 1 };
    expect(of('bar-2', trained, 0.1101)).toEqual([false]);
    const far = changed(rows, { method: 'decoupleQ', bits: 2 }, gapOf(0.2));
    expect(holds(check('gap', 'bar-2', changed(far, trained, gapOf(0.114))))).toEqual([true]);
    expect(holds(check('gap', 'bar-2', changed(far, trained, gapOf(0.116))))).toEqual([false]);
  });

  it('bar-4 allows a thousandth over the best start, however far seeds differ', () => {
    const trained = { method: 'decoupleQ + QAT', bits: 4 };
    expect(of('bar-4', trained, 0.0052)).toEqual([true, true]);
    expect(of('bar-4', trained, 0.0054)).toEqual([true, false]);
    expect(of('bar-4', { method: straight, bits: 4 }, 0.0054)).toEqual([false, true]);
    const wide = changed(rows, { method: 'decoupleQ', bits: 4, seed: 2 }, gapOf(0.0103));
    expect(holds(check('gap', 'bar-4', changed(wide, trained, gapOf(0.0065))))).toEqual([true, true]);
    expect(holds(check('gap', 'bar-4', changed(wide, trained, gapOf(0.0077))))).toEqual([true, false]);
  });

  it('is silent about arms that were not run', () => {
    const without = rows.filter(({ bits }) => bits === 2);
    expect(holds(check('gap', 'Q1-order', without))).toEqual([true]);
    expect(check('gap', 'Q1-gap', without)).toEqual([]);
    expect(check('gap', 'bar-4', without)).toEqual([]);
  });
});

describe('budget', () => {
  const rows = grid('windows', 'method', {
    32: { decoupleQ: 0.11, 'QAT, KL': 0.16, 'QAT, cross-entropy': 0.26, 'decoupleQ + QAT, KL': 0.08 },
    128: { decoupleQ: 0.105, 'QAT, KL': 0.12, 'QAT, cross-entropy': 0.18, 'decoupleQ + QAT, KL': 0.07 },
    512: { decoupleQ: 0.1, 'QAT, KL': 0.09, 'QAT, cross-entropy': 0.14, 'decoupleQ + QAT, KL': 0.06 },
  });
  const of = (claim: string, where: ExperimentRow, loss: number) => holds(check('budget', claim, changed(rows, where, gapOf(loss))));

  it('holds for what the specification expects', () => {
    for (const claim of ['Q5-small', 'Q5-shrinks', 'Q7']) expect(holds(check('budget', claim, rows)), claim).toEqual([true]);
    expect(holds(check('budget', 'Q7-both', rows))).toEqual([true, true, true, true, true, true]);
  });

  it('fails where training on the next token does as well', () => {
    const text = { method: 'QAT, cross-entropy', seed: 0 };
    expect(of('Q5-small', { ...text, windows: 32 }, 0.15)).toEqual([false]);
    expect(of('Q5-shrinks', { ...text, windows: 512 }, 0.2)).toEqual([false]);
  });

  it('fails where decoupleQ is behind, or training from it', () => {
    expect(of('Q7', { method: 'decoupleQ', windows: 32, seed: 2 }, 0.17)).toEqual([false]);
    expect(of('Q7-both', { method: 'decoupleQ + QAT, KL', windows: 512, seed: 1 }, 0.095)).toEqual([true, true, true, true, true, false]);
  });
});

describe('overfit', () => {
  const ends = {
    'first training loss': 4,
    'training loss at the turn': 3,
    'last training loss': 1,
    'first held-out loss': 4,
    'least held-out loss': 3.5,
    'last held-out loss': 4.5,
    'loss-gap': 0.9,
  };
  const rates = [3e-5, 1e-4, 3e-4, 1e-3, 3e-3];
  const least: Readonly<Record<number, readonly number[]>> = { 2: [3.9, 3.8, 3.6, 3.5, 3.7], 4: [3.32, 3.31, 3.3, 3.35, 3.5] };
  const rows = [2, 4].flatMap((bits) => [
    ...rates.flatMap((rate, i) => {
      const row = { objective: 'cross-entropy', bits, rate };
      return [...seeded({ ...row, step: 3 }, {}), ...seeded({ ...row, isLast: true }, { ...ends, 'least held-out loss': least[bits][i] })];
    }),
    ...seeded({ objective: 'KL', bits, rate: 1e-3, isLast: true }, { 'loss-gap': 0.2 }),
  ]);
  const at = { objective: 'cross-entropy', bits: 2, rate: 1e-3, isLast: true };
  const of = (claim: string, where: ExperimentRow, fields: ExperimentRow) => holds(check('overfit', claim, changed(rows, where, fields)));

  it('holds for what the specification expects', () => {
    for (const claim of ['Q4-overfit', 'Q5-overfit']) expect(holds(check('overfit', claim, rows)), claim).toEqual([true, true]);
    expect(check('overfit', 'Q4-rate', rows)).toMatchObject([
      {
        holds: true,
        evidence: expect.stringContaining('3.5 at 0.001, 3.7 at 0.003; 4 bits: 3.32 at 0.00003, 3.31 at 0.0001, 3.3 at 0.0003') as string,
      },
    ]);
  });

  it('Q4-overfit fails where a curve of held-out text does not turn, or one of trained text does not fall', () => {
    expect(of('Q4-overfit', { ...at, seed: 1 }, { 'last held-out loss': 3.5 })).toEqual([false, true]);
    const least = Number(rows.find((row) => row['isLast'] === true && row['seed'] === 2 && row['rate'] === 1e-3)?.['least held-out loss']);
    expect(of('Q4-overfit', { ...at, seed: 2 }, { 'last held-out loss': least + 0.099 })).toEqual([false, true]);
    expect(of('Q4-overfit', { ...at, seed: 2 }, { 'last held-out loss': least + 0.101 })).toEqual([true, true]);
    // What was learned before the turn does not count.
    expect(of('Q4-overfit', { ...at, seed: 2 }, { 'last training loss': 3.1 })).toEqual([false, true]);
    expect(of('Q4-overfit', { ...at, seed: 2 }, { 'last training loss': null })).toEqual([false, true]);
  });

  it('Q4-rate fails where one rate is best for both', () => {
    expect(of('Q4-rate', { ...at, rate: 3e-4 }, { 'least held-out loss': 3.4 })).toEqual([false]);
  });

  it('Q5-overfit fails where KL ends no better, and is silent without a last row', () => {
    expect(of('Q5-overfit', { objective: 'KL', bits: 4, seed: 0 }, gapOf(0.95))).toEqual([true, false]);
    expect(
      check(
        'overfit',
        'Q4-overfit',
        rows.filter(({ isLast }) => isLast !== true),
      ),
    ).toEqual([]);
  });
});

describe('init', () => {
  const rows = grid('start', 'trained', {
    RTN: { none: 0.47, 'scales and offsets': 0.2, 'all, dense weights': 0.1, 'all, dequantized weights': 0.19 },
    GPTQ: { none: 0.17, 'scales and offsets': 0.12, 'all, dense weights': 0.09, 'all, dequantized weights': 0.11 },
    decoupleQ: { none: 0.11, 'scales and offsets': 0.08, 'all, dense weights': 0.07, 'all, dequantized weights': 0.075 },
  });
  const of = (claim: string, where: ExperimentRow, loss: number) => holds(check('init', claim, changed(rows, where, gapOf(loss))));

  it('holds for what the specification expects', () => {
    expect(holds(check('init', 'Q6-scales', rows))).toEqual([true]);
    expect(holds(check('init', 'Q6-latent', rows))).toEqual([true, true, true]);
    const [verdict] = check('init', 'Q6-all', rows);
    expect(verdict.holds).toBe(true);
    expect(verdict.evidence).toMatch(/; from RTN less from decoupleQ, all trained 0\.03 .*; scales and offsets alone 0\.12 /);
  });

  it('fails where the start does not decide, or decides as much for all, or dense weights do worse', () => {
    expect(of('Q6-scales', { start: 'GPTQ', trained: 'scales and offsets', seed: 1 }, 0.07)).toEqual([false]);
    expect(of('Q6-all', { start: 'RTN', trained: 'all, dense weights', seed: 1 }, 0.3)).toEqual([false]);
    expect(of('Q6-latent', { start: 'GPTQ', trained: 'all, dense weights', seed: 1 }, 0.2)).toEqual([true, false, true]);
  });
});

describe('loss, quantizer and stages', () => {
  it.each([
    ['loss', 'Q5', { 2: { KL: 0.07, 'cross-entropy': 0.1 } }, ['bits', 'objective'], { objective: 'KL', seed: 0 }, 1],
    [
      'quantizer',
      'learned',
      {
        'per channel': { 'LSQ+, integer zero': 0.2, 'min-max, recomputed': 0.5 },
        'groups of 32': { 'LSQ+, integer zero': 0.1, 'min-max, recomputed': 0.2 },
      },
      ['groups', 'quantizer'],
      { groups: 'groups of 32', quantizer: 'LSQ+, integer zero', seed: 0 },
      2,
    ],
    ['quantizer', 'seq', { 'per channel': { SEQ: 0.2, 'LSQ, symmetric': 0.4 } }, ['groups', 'quantizer'], { quantizer: 'SEQ', seed: 1 }, 1],
    [
      'stages',
      'phases',
      { RTN: { none: 0.47, blocks: 0.15, 'scales of the model': 0.2, 'blocks, then scales of the model': 0.1 } },
      ['start', 'trained'],
      { trained: 'blocks, then scales of the model', seed: 1 },
      2,
    ],
  ])('%s: %s holds for the order and fails for one seed without it', (experiment, claim, losses, [first, second], where, count) => {
    const rows = grid(first, second, losses as Record<string, Record<string, number>>);
    expect(holds(check(experiment, claim, rows))).toEqual(Array.from({ length: count }, () => true));
    expect(holds(check(experiment, claim, changed(rows, where, gapOf(0.6))))).toContain(false);
  });
});

describe('pareto', () => {
  const at = (method: string, bits: number, groups: string, size: number, gap: number) =>
    seeded({ method, bits, groups, bitsPerWeight: size }, { 'loss-gap': gap });
  const rows = [
    ...at('GPTQ', 2, 'groups of 32', 2.56, 0.23),
    ...at('decoupleQ', 2, 'groups of 32', 3, 0.11),
    ...at('QAT from rounding', 2, 'groups of 32', 2.56, 0.12),
    ...at('decoupleQ + QAT', 2, 'groups of 32', 3, 0.07),
  ];

  it('holds where every untrained model has a trained one that is no larger and better', () => {
    const verdicts = check('pareto', 'front', rows);
    expect(verdicts.map(({ subject, holds }) => [subject, holds])).toEqual([
      ['tiny, GPTQ, 2, groups of 32', true],
      ['tiny, decoupleQ, 2, groups of 32', true],
    ]);
    expect(verdicts[0].evidence).toBe('GPTQ, 2, groups of 32: 2.56 bits, 0.23: QAT from rounding, 2, groups of 32: 2.56 bits, 0.12');
  });

  it('fails for a point that only larger models beat', () => {
    const worse = changed(rows, { method: 'QAT from rounding', seed: 0 }, gapOf(0.3));
    expect(holds(check('pareto', 'front', worse))).toEqual([false, true]);
    expect(check('pareto', 'front', worse)[0].evidence).toContain('none is better');
  });
});
