// The rows of one cell: what is known when a row is made is in it.
import type { Score } from '@lowbit/core';
import { LowbitError } from '@lowbit/core';
import { rtn } from '@lowbit/rtn';
import { describe, expect, it } from 'vitest';
import { rowsAbout } from '../src/cell-rows.js';
import { isScore, readRow } from '../src/row.js';
import type { CellWork } from '../src/run-cell.js';

/** What rows are made from, of all that a cell has. */
const work = {
  prepared: { resolved: { name: 'tiny' }, task: undefined },
  recipe: { name: 'rtn-2', recipe: [rtn({ bits: 2, groupSize: 32 })] },
  seed: 3,
  provenance: { versions: {}, backend: 'reference', commit: null },
} as unknown as CellWork;

const score: Score = { evaluator: 'kl', version: 2, value: 0.5, stderr: 0.1, samples: 9, higherIsBetter: false, protocol: { windows: 1 } };

describe('rowsAbout', () => {
  it('fills in what is known by then', () => {
    const about = rowsAbout(work, () => 7);
    expect(about.failure('text', new LowbitError('GROUP_SIZE', 'here: no'))).toMatchObject({
      ...{ model: 'tiny', recipe: 'rtn-2', method: 'rtn', bits: 2, seed: 3, bitsPerWeight: null, seconds: 0, peakRssMiB: 7, value: null },
      error: { code: 'GROUP_SIZE', message: 'GROUP_SIZE: here: no' },
    });
    about.bitsPerWeight = 2.5;
    about.seconds = 4;
    expect(about.score({ ...score, parts: { a: 1 } }, 6)).toMatchObject({
      ...{ bitsPerWeight: 2.5, seconds: 4, evaluateSeconds: 6, evaluator: 'kl', evaluatorVersion: 2, value: 0.5, parts: { a: 1 } },
    });
  });

  it('has the highest of the peaks so far, whoever made the system forget one', () => {
    let peak = 7;
    const about = rowsAbout(work, () => peak);
    peak = 90;
    about.keepPeak();
    peak = 20;
    expect(about.score(score, 1)).toMatchObject({ peakRssMiB: 90 });
    peak = 95;
    expect(about.failure('text', new Error('no'))).toMatchObject({ peakRssMiB: 95 });
  });

  it('keep what each window of a text gives, as exactly as it is known', () => {
    const row = rowsAbout(work, () => 7).score({ ...score, byWindow: [0.123456789012, 0.876543210988] }, 1);
    expect(row).toMatchObject({ byWindow: [0.1234568, 0.8765432] });
    expect(rowsAbout(work, () => 7).score(score, 1)).not.toHaveProperty('byWindow');
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('takes %f for a failure: JSON cannot hold it, and no table can rank it', (value) => {
    const row = rowsAbout(work, () => 7).score({ ...score, value }, 1);
    expect(row).toMatchObject({ value: null, error: { code: 'SCORE_NOT_FINITE', message: expect.stringContaining('kl is') as string } });
    expect(isScore(JSON.parse(JSON.stringify(row)))).toBe(false);
  });

  it('keeps that an error is not known', () => {
    const row = rowsAbout(work, () => 7).score({ ...score, stderr: Number.NaN }, 1);
    expect(readRow(JSON.parse(JSON.stringify(row)))).toEqual(row);
  });
});
