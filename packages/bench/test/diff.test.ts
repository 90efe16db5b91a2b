// What is said of differences: between recipes of a run, and between two runs.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { diffRuns, diffText } from '../src/diff.js';
import { differs, noiseBetween, spreadOf } from '../src/noise.js';
import type { ScoreRow } from '../src/row.js';
import { summarizeRows } from '../src/summary.js';
import { failedRow, scoreRow } from './rows.js';

const gap = (method: string, bits: number, values: readonly number[], more: Partial<ScoreRow> = {}) =>
  values.map((value, seed) => scoreRow(method, bits, value, { evaluator: 'loss-gap', stderr: 0.02, seed, ...more }));

describe('spreadOf', () => {
  it('is mean and sample deviation of several seeds, value and error of one', () => {
    expect(spreadOf(gap('gptq', 2, [1, 2, 6]))).toEqual({ mean: 3, seeds: 3, noise: Math.sqrt(7) });
    expect(spreadOf(gap('rtn', 2, [0.1, 0.1, 0.1]))).toEqual({ mean: 0.1, seeds: 3, noise: 0 });
    expect(spreadOf(gap('gptq', 2, [1]))).toEqual({ mean: 1, seeds: 1, noise: 0.02 });
  });

  it('does not depend on the order of seeds', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: -100, max: 100, noNaN: true }), { minLength: 1, maxLength: 8 }), (values) => {
        const [a, b] = [values, values.toReversed()].map((some) => spreadOf(gap('gptq', 2, some)));
        expect(a.mean).toBeCloseTo(b.mean, 9);
        expect(a.noise).toBeCloseTo(b.noise, 9);
      }),
    );
  });
});

describe('differs', () => {
  const spread = (mean: number, noise: number) => ({ mean, noise, seeds: 3 });

  it('asks for more than twice what both vary by', () => {
    expect(noiseBetween(spread(0, 3), spread(0, 4))).toBe(5);
    expect(differs(spread(0, 3), spread(10.1, 4))).toBe(true);
    expect(differs(spread(0, 3), spread(9.9, 4))).toBe(false);
  });

  it('says no where the noise is not known, and where there is no difference', () => {
    expect(differs(spread(0, Number.NaN), spread(100, 0))).toBe(false);
    expect(differs(spread(1, 0), spread(1, 0))).toBe(false);
  });
});

describe('summarizeRows', () => {
  const rows = [
    ...gap('rtn', 2, [0.5, 0.5]),
    ...gap('gptq', 2, [0.24, 0.26]),
    ...gap('lrec', 2, [0.22, 0.25]),
    ...gap('rtn', 4, [0.01, 0.01]),
  ];

  it('ranks recipes of equal bits, and says what noise explains', () => {
    expect(summarizeRows(rows)).toContain('- tiny, 2 bits, groups of 32: rtn-2 0.5 > gptq-2 0.25 ± 0.014 ≈ lrec-2 0.235 ± 0.021');
    expect(summarizeRows(rows)).not.toContain('tiny, 4 bits, groups');
  });

  it('says what seeds make of the loss, where there are several', () => {
    expect(summarizeRows(rows)).toContain('± is the deviation between 2 seeds. tiny: that of the added loss is 0 to 0.02121');
    expect(summarizeRows(gap('rtn', 2, [1]))).not.toContain('seeds');
  });

  it('says what failed', () => {
    expect(summarizeRows([failedRow('rtn', 2, 'GROUP_SIZE')])).toMatch(
      /\n\nFailed:\n\n- tiny, rtn-2, seed 0, perplexity: GROUP_SIZE: somewhere/,
    );
  });
});

describe('diffRuns', () => {
  const before = [...gap('gptq', 2, [1, 1.1, 1.2]), ...gap('rtn', 2, [2])];

  it('finds no difference between a run and itself', () => {
    const { lines, notes } = diffRuns(before, before);
    expect(lines.map(({ recipe, verdict, before: { seeds } }) => [recipe, verdict, seeds])).toEqual([
      ['gptq-2', 'same', 3],
      ['rtn-2', 'same', 1],
    ]);
    expect(notes).toEqual([]);
  });

  it.each([
    [[0.7, 0.8, 0.9], 'better'],
    [[1.5, 1.6, 1.7], 'worse'],
    [[1.1, 1.2, 1.3], 'within noise'],
  ])('%j is %s', (values, verdict) => {
    const [line] = diffRuns(before, gap('gptq', 2, values)).lines;
    expect(line).toMatchObject({ verdict, evaluator: 'loss-gap' });
    expect(line.noise).toBeCloseTo(Math.SQRT2 * 0.1, 12);
    expect(line.difference).toBeCloseTo(values[1] - 1.1, 12);
  });

  it('takes more for better where it is', () => {
    const accuracy = (value: number) => [scoreRow('rtn', 2, value, { evaluator: 'top1-agreement', higherIsBetter: true })];
    expect(diffRuns(accuracy(0.5), accuracy(0.9)).lines[0].verdict).toBe('better');
  });

  it('compares the seeds that both have, and says what one of them lacks', () => {
    const { lines, notes } = diffRuns(before, [...gap('gptq', 2, [1, 1.1]), failedRow('rtn', 2, 'GROUP_SIZE')]);
    expect(lines).toMatchObject([{ recipe: 'gptq-2', before: { mean: 1.05, seeds: 2 }, verdict: 'same' }]);
    expect(notes).toEqual([
      'tiny, gptq-2, seed 2, loss-gap: in the first run alone',
      'tiny, rtn-2, seed 0, loss-gap: in the first run alone',
      'tiny, rtn-2, seed 0, perplexity: failed in the second run: GROUP_SIZE: somewhere: something',
    ]);
  });

  it('does not compare what was judged otherwise, and says in what recipes, data and code differ', () => {
    const after = [
      ...gap('gptq', 2, [1, 1.1, 1.2], { protocol: { windows: 16 }, commit: 'b', calibration: { description: '', hash: 'y' } }),
      ...gap('rtn', 2, [1], { steps: [{ method: 'rtn', version: 2, options: {}, targets: [], overrides: [] }] }),
    ];
    const { lines, notes } = diffRuns(before, after);
    expect(lines.map(({ verdict }) => verdict)).toEqual(['other protocol', 'better']);
    expect(notes).toEqual([
      'commit: "" → "b, "',
      'protocol of loss-gap on tiny: windows: none → 16',
      'tiny, gptq-2: calibration: none → "y"',
      expect.stringMatching(/^tiny, rtn-2: steps: \[\] → \[\{"method":"rtn","version":2/) as string,
    ]);
    expect(diffText({ lines, notes })).toMatch(/\| tiny +\| rtn-2 +\| loss-gap \| better +\| +1 \| +2 ± 0.02 \| +1 ± 0.02 \| +-1 \|/);
  });

  it('says so where nothing can be compared', () => {
    expect(diffText(diffRuns(before, []))).toMatch(/^The runs have no score in common\.\n\n/);
  });
});
