// Tables and verdicts that are made from rows.
import type { ExperimentRow } from '@lowbit/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkClaims, claimLines, holds } from '../src/experiment/claims.js';
import { pivotTable } from '../src/experiment/pivot.js';
import { compared, gptqIsBetter, squares } from './experiments.js';

describe('pivotTable', () => {
  const rows: readonly ExperimentRow[] = [
    { model: 'tiny', arm: 'dense', loss: 1 },
    { model: 'tiny', method: 'rtn', bits: 2, seed: 0, loss: 0.5, note: 'a|b' },
    { model: 'tiny', method: 'rtn', bits: 2, seed: 1, loss: 0.7, note: 'a|b' },
    { model: 'tiny', method: 'rtn', bits: 3, seed: 0, loss: 0.1, note: 'a|b' },
    { model: 'tiny', method: 'gptq', bits: 2, seed: 0, loss: null, note: 'c' },
  ];

  it('has a line for each combination, a column for each value, and means with standard deviations', () => {
    const { text, notes } = pivotTable(rows, { rows: ['model', 'method'], columns: 'bits', values: ['loss'] });
    expect(text.split('\n')).toEqual([
      '| model | method |     bits 2 |  bits 3 |',
      '| ----- | ------ | ---------: | ------: |',
      '| tiny  | rtn    | 0.6 ± 0.14 | 0.1 (1) |',
      '| tiny  | gptq   |            |         |',
    ]);
    expect(notes.join(' ')).toMatch(/^± is one standard deviation .*\(n\): a cell of n numbers, where others have 2\.$/);
  });

  it('has a column for each number without columns, and names both where there are several of each', () => {
    expect(pivotTable(rows, { rows: ['note'], values: ['loss', 'seed'] }).text.split('\n')).toEqual([
      '| note |          loss |          seed |',
      '| ---- | ------------: | ------------: |',
      '| a\\|b | 0.4333 ± 0.31 | 0.3333 ± 0.58 |',
      '| c    |               |         0 (1) |',
    ]);
    expect(pivotTable(rows, { rows: ['model'], columns: 'method', values: ['loss', 'bits'] }).text).toMatch(
      /^\| model \| +loss, rtn \| +bits, rtn \| +loss, gptq \| +bits, gptq \|\n/,
    );
  });

  it('shows no deviation of equal numbers', () => {
    const rows = [0, 1, 2].map((seed) => ({ x: 'a', y: 0.06406, seed }));
    expect(pivotTable(rows, { rows: ['x'], values: ['y'] }).text).toContain('| 0.06406 ± 0 |');
  });

  it('shows the sample mean and deviation of any numbers', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.double({ min: 0.1, max: 100, noNaN: true }), { minLength: 2, maxLength: 6 }), (values) => {
        const [, , line] = pivotTable(
          values.map((y) => ({ x: 'a', y })),
          { rows: ['x'], values: ['y'] },
        ).text.split('\n');
        const [mean, deviation] = line.split('|')[2].split('±').map(Number);
        const expected = values.reduce((a, b) => a + b) / values.length;
        const square = values.reduce((sum, y) => sum + (y - expected) ** 2, 0) / (values.length - 1);
        expect(Math.abs(mean - expected)).toBeLessThanOrEqual(5.1e-4 * expected); // 4 significant digits
        expect(Math.abs(deviation - Math.sqrt(square))).toBeLessThanOrEqual(0.051 * Math.sqrt(square)); // 2 of them
      }),
      { seed: 1 },
    );
  });
});

describe('claims', () => {
  const row = (method: string, gap: number) => ({ model: 'tiny', arm: method, method, 'loss-gap': gap });

  it('are checked on what did not fail, without the dense model', () => {
    const rows = [{ ...row('gptq', 9), arm: 'dense' }, { ...row('gptq', 9), failure: 'X' }, row('gptq', 0.1), row('rtn', 0.3)];
    const [claim] = checkClaims(compared, rows);
    expect(holds(claim)).toBe(true);
    expect(claimLines([claim])).toEqual(['- ✔ C1: gptq adds less loss than rtn', '  - ✔ tiny: 0.1 against 0.3']);
    const [broken] = checkClaims(compared, [row('gptq', 0.5), row('rtn', 0.3)]);
    expect(holds(broken)).toBe(false);
    expect(claimLines([broken]).join()).toMatch(/✘ C1.*✘ tiny/);
  });

  it('have no verdict where rows are missing, and where the check throws', () => {
    const throwing = { ...gptqIsBetter, check: () => [0].map((i) => ({ subject: '', holds: true, evidence: [''][i + 1].trim() })) };
    const [missing, thrown] = checkClaims({ ...compared, claims: [gptqIsBetter, throwing] }, [row('rtn', 1)]);
    expect([holds(missing), holds(thrown)]).toEqual([false, false]);
    expect(claimLines([missing, thrown]).join('\n')).toMatch(
      /^- – C1.*\n {2}- no verdict: the rows lack.*\n- – C1.*\n {2}- no verdict: Cannot read/,
    );
    expect(checkClaims(squares, [])).toEqual([]);
  });
});
