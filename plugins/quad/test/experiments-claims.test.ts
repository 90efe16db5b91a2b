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

/** Three seeds of a row, whose gap differs by a ten-thousandth from seed to seed. */
function seeded(row: ExperimentRow, gap: number): ExperimentRow[] {
  return [0, 1, 2].map((seed) => ({ model: 'tiny', ...row, seed, 'loss-gap': gap + 1e-4 * (seed - 1) }));
}

/** With the gap of some rows replaced. */
function changed(rows: readonly ExperimentRow[], where: ExperimentRow, gap: number | null): ExperimentRow[] {
  const isMeant = (row: ExperimentRow): boolean => Object.entries(where).every(([name, value]) => row[name] === value);
  expect(rows.some(isMeant)).toBe(true);
  return rows.map((row) => (isMeant(row) ? { ...row, 'loss-gap': gap } : row));
}

describe('table', () => {
  const gaps: Readonly<Record<string, Readonly<Record<string, number>>>> = {
    W4A4: { RTN: 0.5, GPTQ: 0.45, 'QuaRot-RTN': 0.06, 'QuaRot-GPTQ': 0.05, 'QUAD-RTN': 0.045, 'QUAD-GPTQ': 0.04 },
    'W4A4/A8': { 'QUAD-RTN': 0.034, 'QUAD-GPTQ': 0.03 },
    W3A3: { 'QuaRot-GPTQ': 0.3, 'QUAD-RTN': 0.25, 'QUAD-GPTQ': 0.2 },
  };
  const rows = Object.entries(gaps).flatMap(([format, methods]) =>
    Object.entries(methods).flatMap(([method, gap]) => seeded({ format, method }, gap)),
  );

  it('holds for the order of the paper', () => {
    for (const name of ['C1', 'C2', 'C5', 'C10']) expect(holds(check('table', name, rows))).toEqual([true]);
    expect(check('table', 'C4', rows).map(({ subject, holds }) => [subject, holds])).toEqual([
      ['tiny, W4A4', true],
      ['tiny, W4A4/A8', true],
      ['tiny, W3A3', true],
    ]);
    expect(check('table', 'C2', rows)[0].evidence).toBe('QUAD-GPTQ 0.04 (0.0399, 0.04, 0.0401); QuaRot-GPTQ 0.05 (0.0499, 0.05, 0.0501)');
  });

  it('C1 asks for a gain of more than three deviations', () => {
    const plain = { format: 'W4A4', method: 'RTN' };
    expect(holds(check('table', 'C1', changed(rows, { ...plain, seed: 0 }, 0.3)))).toEqual([true]);
    expect(holds(check('table', 'C1', changed(rows, { ...plain, seed: 0 }, 0.1)))).toEqual([false]);
    expect(holds(check('table', 'C1', changed(rows, plain, 0.05)))).toEqual([false]);
    expect(holds(check('table', 'C1', changed(rows, { ...plain, seed: 1 }, null)))).toEqual([false]);
  });

  it.each([
    ['C2', 'W4A4', 'QUAD-GPTQ', 0.0502],
    ['C5', 'W4A4/A8', 'QUAD-GPTQ', 0.0401],
    ['C10', 'W3A3', 'QUAD-GPTQ', 0.3],
  ])('%s fails for one seed that is no better', (name, format, method, gap) => {
    expect(holds(check('table', name, changed(rows, { format, method, seed: 1 }, gap)))).toEqual([false]);
  });

  it('C4 allows noise', () => {
    const of = (gap: number) => holds(check('table', 'C4', changed(rows, { format: 'W4A4', method: 'QUAD-GPTQ' }, gap)));
    expect(of(0.0469)).toEqual([true, true, true]);
    expect(of(0.0471)).toEqual([false, true, true]);
  });
});

describe('ranks', () => {
  const rowsOf = (gaps: readonly number[]): ExperimentRow[] =>
    [0, 2, 4, 8, 16, 32, 64].flatMap((rank, i) => seeded({ format: 'W4A4', rank }, gaps[i]));

  it('C3 holds for a loss that falls, or rises by noise', () => {
    expect(holds(check('ranks', 'C3', rowsOf([0.3, 0.2, 0.1, 0.08, 0.07, 0.06, 0.05])))).toEqual([true]);
    expect(holds(check('ranks', 'C3', rowsOf([0.3, 0.2, 0.1, 0.1019, 0.07, 0.06, 0.05])))).toEqual([true]);
    expect(holds(check('ranks', 'C3', rowsOf([0.3, 0.2, 0.1, 0.103, 0.07, 0.06, 0.05])))).toEqual([false]);
  });

  it('C3 takes the deviation of the difference between seeds for noise where that is more', () => {
    const rows = rowsOf([0.3, 0.2, 0.1, 0.103, 0.07, 0.06, 0.05]);
    expect(holds(check('ranks', 'C3', changed(rows, { rank: 8, seed: 0 }, 0.095)))).toEqual([true]);
  });
});

describe('basis', () => {
  const gaps = {
    'largest directions': 0.04,
    'loudest channels': 0.045,
    'random directions': 0.05,
    'smallest directions': 0.06,
    'none (QuaRot)': 0.059,
    'largest, no rotation of the rest': 0.055,
  };
  const rows = ['W4A4', 'W3A3'].flatMap((format) =>
    Object.entries(gaps).flatMap(([directions, gap]) => seeded({ format, directions }, gap)),
  );
  const of = (name: string, directions: string, gap: number, format = 'W3A3') =>
    holds(check('basis', name, changed(rows, { format, directions, seed: 2 }, gap)));

  it('C6 is about the largest, random and the smallest directions, C7 about the rotation beside the largest', () => {
    expect(holds(check('basis', 'C6', rows))).toEqual([true, true]);
    expect(holds(check('basis', 'C7', rows))).toEqual([true]);
    expect(of('C6', 'largest directions', 0.0502)).toEqual([true, false]);
    expect(of('C6', 'random directions', 0.0602, 'W4A4')).toEqual([false, true]);
    expect(of('C6', 'loudest channels', 0.07)).toEqual([true, true]);
    expect(of('C7', 'largest, no rotation of the rest', 0.04)).toEqual([false]);
  });
});

describe('parts', () => {
  const rows = [
    ...seeded({ format: 'W4A16', method: 'QuaRot' }, 0.03),
    ...seeded({ format: 'W4A16', method: 'QUAD' }, 0.035),
    ...seeded({ format: 'W16A4', method: 'QuaRot' }, 0.03),
    ...seeded({ format: 'W16A4', method: 'QUAD' }, 0.02),
  ];

  it('C8 is a small difference to either side, C9 an order', () => {
    for (const name of ['C8', 'C9']) expect(holds(check('parts', name, rows))).toEqual([true]);
    for (const gap of [0.019, 0.041])
      expect(holds(check('parts', 'C8', changed(rows, { format: 'W4A16', method: 'QUAD' }, gap)))).toEqual([false]);
    expect(holds(check('parts', 'C9', changed(rows, { format: 'W16A4', method: 'QUAD', seed: 0 }, 0.031)))).toEqual([false]);
  });
});

describe('clip', () => {
  const rows = [
    ...seeded({ variant: 'clip 0.9' }, 0.04),
    ...seeded({ variant: 'clip 1.0' }, 0.05),
    ...seeded({ variant: 'KV4, keys rotated' }, 0.06),
    ...seeded({ variant: 'KV4, keys as they are' }, 0.07),
  ];

  it('C11 and the claim about keys allow noise', () => {
    for (const [name, variant, above] of [
      ['C11', 'clip 0.9', 0.05],
      ['keys', 'KV4, keys rotated', 0.07],
    ] as const) {
      expect(holds(check('clip', name, rows))).toEqual([true]);
      expect(holds(check('clip', name, changed(rows, { variant }, above + 0.0019)))).toEqual([true]);
      expect(holds(check('clip', name, changed(rows, { variant }, above + 0.0021)))).toEqual([false]);
    }
  });
});

describe('weights', () => {
  const rows = ['W4A4', 'W2A16'].flatMap((format) => [
    ...seeded({ format, weights: 'GPTQ' }, 0.2),
    ...seeded({ format, weights: 'GPTQ, columns fitted' }, 0.19),
  ]);
  const fitted = (format: string) => ({ format, weights: 'GPTQ, columns fitted' });

  it('fitted columns must help at 2 bits and not harm at 4', () => {
    for (const name of ['columns', 'columns-4']) expect(holds(check('weights', name, rows))).toEqual([true]);
    expect(holds(check('weights', 'columns', changed(rows, { ...fitted('W2A16'), seed: 1 }, 0.2)))).toEqual([false]);
    expect(holds(check('weights', 'columns-4', changed(rows, fitted('W4A4'), 0.2019)))).toEqual([true]);
    expect(holds(check('weights', 'columns-4', changed(rows, fitted('W4A4'), 0.2021)))).toEqual([false]);
  });
});

describe('peft', () => {
  const gaps = {
    QUAD: 0.06,
    'QUAD, tuned': -1.9,
    'control of QUAD, tuned': -1.95,
    'QUAD, columns tuned': -0.8,
    'control of QUAD, columns tuned': -0.85,
    QuaRot: 0.08,
    'QuaRot, scales tuned': -1.8,
    'control of QuaRot, scales tuned': -1.9,
  };
  const rows = Object.entries(gaps).flatMap(([training, gap]) => seeded({ training }, gap));
  const of = (name: string, training: string, gap: number) => holds(check('peft', name, changed(rows, { training, seed: 0 }, gap)));

  it('is about gaps below zero too', () => {
    for (const name of ['tuned', 'tuned-columns']) expect(holds(check('peft', name, rows))).toEqual([true]);
    expect(holds(check('peft', 'adaptation', rows))).toEqual([true, true, true]);
    expect(of('tuned', 'QUAD, tuned', 0.07)).toEqual([false]);
    expect(of('tuned-columns', 'QuaRot, scales tuned', -2)).toEqual([false]);
    expect(of('adaptation', 'QUAD, tuned', -1.96)).toEqual([false, true, true]);
    expect(of('adaptation', 'QUAD, columns tuned', -0.9)).toEqual([true, false, true]);
    expect(of('adaptation', 'QuaRot, scales tuned', -1.91)).toEqual([true, true, false]);
  });

  it('holds what quantizing costs after tuning against what it cost before', () => {
    const evidence = check('peft', 'adaptation', rows).map((verdict) => verdict.evidence.split('; ').slice(3).join('; '));
    expect(evidence).toEqual([
      'tuned less control 0.05 (0.05, 0.05, 0.05); untuned less dense 0.06 (0.0599, 0.06, 0.0601)',
      'tuned less control 0.05 (0.05, 0.05, 0.05); untuned less dense 0.06 (0.0599, 0.06, 0.0601)',
      'tuned less control 0.1 (0.1, 0.1, 0.1); untuned less dense 0.08 (0.0799, 0.08, 0.0801)',
    ]);
  });
});

describe('activations', () => {
  const ofBasis = { raw: [5, 3], rotated: [1.5, 3.1], decomposed: [1.6, 2.5] } as const;
  const rows = Object.entries(ofBasis).flatMap(([basis, [ratio, median]]) =>
    ['q, k, v', 'o', 'gate, up', 'down'].flatMap((input) =>
      [0, 1].flatMap((block) =>
        [0, 1, 2].map(
          (seed): ExperimentRow => ({
            model: 'tiny',
            seed,
            basis,
            input,
            block,
            'channel-ratio': ratio + block,
            median: median + 0.01 * seed,
          }),
        ),
      ),
    ),
  );
  const replaced = (where: ExperimentRow, change: ExperimentRow): ExperimentRow[] =>
    rows.map((row) => (Object.entries(where).every(([name, value]) => row[name] === value) ? { ...row, ...change } : row));

  it('hold where a rotation makes channels alike and a decomposition makes them smaller', () => {
    expect(check('activations', 'flat', rows)).toEqual(
      ['q, k, v', 'gate, up', 'down'].map((input) => ({
        subject: `tiny, ${input}`,
        holds: true,
        evidence: 'rotated 1.5 to 2.5, raw 5 to 6; in order in 2 of 2 blocks',
      })),
    );
    expect(check('activations', 'narrow', rows).map(({ subject, holds }) => [subject, holds])).toEqual([
      ['tiny, q, k, v', true],
      ['tiny, gate, up', true],
    ]);
  });

  it('fail for one block and seed, of that input alone', () => {
    const flat = replaced({ basis: 'rotated', input: 'down', block: 1, seed: 2 }, { 'channel-ratio': 6 });
    expect(holds(check('activations', 'flat', flat))).toEqual([true, true, false]);
    expect(check('activations', 'flat', flat)[2].evidence).toContain('in order in 1 of 2 blocks');
    const narrow = replaced({ basis: 'decomposed', input: 'q, k, v', block: 0, seed: 0 }, { median: 3.1 });
    expect(holds(check('activations', 'narrow', narrow))).toEqual([false, true]);
    expect(holds(check('activations', 'narrow', replaced({ input: 'q, k, v', basis: 'rotated', seed: 0 }, { median: null })))).toEqual([
      false,
      true,
    ]);
  });

  it('fail where a block has one of the bases alone, and say nothing of inputs and models without both', () => {
    const partly = rows.filter((row) => !(row['basis'] === 'raw' && row['block'] === 1 && row['input'] === 'down'));
    expect(holds(check('activations', 'flat', partly))).toEqual([true, true, false]);
    expect(
      check(
        'activations',
        'flat',
        rows.filter((row) => row['basis'] !== 'raw'),
      ),
    ).toEqual([]);
  });
});
