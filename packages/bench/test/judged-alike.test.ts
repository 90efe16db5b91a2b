// Rows that were not judged alike: no mean, no rank, no gain is made of them, and it is said.
import { describe, expect, it } from 'vitest';
import { judgedAlike, judgedOtherwise } from '../src/judged-alike.js';
import { closedGaps } from '../src/ranking.js';
import type { ScoreRow } from '../src/row.js';
import { summarizeRows } from '../src/summary.js';
import { markdownTable } from '../src/table.js';
import { scoreRow } from './rows.js';

const on = (tokensSha256: string, method: string, value: number, more: Partial<ScoreRow> = {}): ScoreRow =>
  scoreRow(method, 2, value, { evaluator: 'loss-gap', protocol: { windows: 16, tokensSha256 }, ...more });

const rows = [on('a', 'rtn', 2), on('a', 'gptq', 1), on('b', 'decoupleq', 0.5), on('b', 'lrec', 0.4)];

describe('judgedAlike', () => {
  it('sets apart what another version of the evaluator judged, or on other text; the order of fields is no matter', () => {
    const same = on('a', 'gptq', 1, { protocol: { tokensSha256: 'a', windows: 16 } });
    const newer = on('a', 'rtn', 2, { evaluatorVersion: 2 });
    expect(judgedAlike([...rows, same, newer])).toEqual([[rows[0], rows[1], same], [rows[2], rows[3]], [newer]]);
    expect(judgedOtherwise([...rows, newer])).toEqual([{ model: 'tiny', evaluator: 'loss-gap', fields: ['version', 'tokensSha256'] }]);
    expect(judgedOtherwise([rows[0], on('b', 'rtn', 2, { model: 'other' }), on('b', 'rtn', 2, { evaluator: 'kl' })])).toEqual([]);
  });
});

describe('summarizeRows', () => {
  it('ranks only what was judged alike, and says so', () => {
    const text = summarizeRows(rows);
    expect(text).toContain(
      'tiny: not all rows of loss-gap were judged by one protocol (tokensSha256); only values of one protocol compare.',
    );
    expect(text).toContain('- tiny, 2 bits, groups of 32: rtn-2 2 ± 0.01 > gptq-2 1 ± 0.01\n');
    expect(text).toContain('- tiny, 2 bits, groups of 32: decoupleq-2 0.5 ± 0.01 > lrec-2 0.4 ± 0.01');
    expect(summarizeRows(rows.slice(0, 2))).not.toContain('protocol');
  });

  it('holds a method against a baseline that was judged alike', () => {
    expect(closedGaps(rows, 'gptq', 'rtn')).toMatchObject([{ share: 0.5 }]);
    expect(closedGaps(rows, 'lrec', 'rtn')).toEqual([]);
    const seeds = [...rows, on('b', 'gptq', 0.1, { seed: 1 })];
    expect(closedGaps(seeds, 'gptq', 'rtn')).toMatchObject([{ share: 0.5, added: { value: 1 } }]);
  });
});

describe('markdownTable', () => {
  it('has no mean over seeds that were judged otherwise', () => {
    const seeds = [on('a', 'gptq', 1), on('b', 'gptq', 2, { seed: 1 }), on('a', 'rtn', 3), on('a', 'rtn', 3, { seed: 1 })];
    const [, , mixed, alike] = markdownTable(seeds).split('\n');
    expect(mixed).toMatch(/\| +2 protocols \|/);
    expect(alike).toMatch(/\| +3 ± 0\.01 \|/);
  });
});
