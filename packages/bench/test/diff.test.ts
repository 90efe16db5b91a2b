// What is said of differences: between recipes of a run, and between two runs.
import { createRng } from '@lowbit/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { diffRuns, diffText } from '../src/diff.js';
import { compare, spreadOf } from '../src/noise.js';
import type { ScoreRow } from '../src/row.js';
import { summarizeRows } from '../src/summary.js';
import { failedRow, scoreRow } from './rows.js';

const gap = (method: string, bits: number, values: readonly number[], more: Partial<ScoreRow> = {}) =>
  values.map((value, seed) => scoreRow(method, bits, value, { evaluator: 'loss-gap', stderr: 0.02, seed, ...more }));

describe('spreadOf', () => {
  it('has the error of the text, and that of the mean over seeds where there are several', () => {
    const three = spreadOf(gap('gptq', 2, [1, 2, 6]));
    expect(three).toMatchObject({ mean: 3, seeds: 3, deviation: Math.sqrt(7), stderr: 0.02 });
    expect(three.noise).toBeCloseTo(Math.sqrt(7 / 3 + 0.02 ** 2), 12);
    expect(spreadOf(gap('gptq', 2, [1]))).toMatchObject({ mean: 1, seeds: 1, deviation: undefined, noise: 0.02 });
  });

  it('does not take for exact what no seed changes: its text is a sample all the same', () => {
    expect(spreadOf(gap('rtn', 2, [0.1, 0.1, 0.1]))).toMatchObject({ mean: 0.1, seeds: 3, deviation: 0, noise: 0.02 });
  });

  it('has windows where all seeds have the same ones', () => {
    const [a, b] = gap('gptq', 2, [1, 2]);
    const rows = [
      { ...a, byWindow: [0, 2] },
      { ...b, byWindow: [1, 3] },
    ];
    expect(spreadOf(rows).byWindow).toEqual([0.5, 2.5]);
    expect(spreadOf([rows[0], b]).byWindow).toBeUndefined();
    expect(spreadOf([rows[0], { ...rows[1], byWindow: [1] }]).byWindow).toBeUndefined();
    expect(spreadOf([rows[0], { ...rows[1], protocol: { tokensSha256: 'other' } }]).byWindow).toBeUndefined();
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

describe('compare', () => {
  const one = (value: number, stderr: number, more: Partial<ScoreRow> = {}) => spreadOf(gap('gptq', 2, [value], { stderr, ...more }));

  it('asks for more than twice what both vary by', () => {
    expect(compare(one(0, 3), one(1, 4))).toEqual({ difference: 1, noise: 5, isClear: false });
    expect(compare(one(0, 3), one(10.1, 4)).isClear).toBe(true);
    expect(compare(one(0, 3), one(-10.1, 4)).isClear).toBe(true);
    expect(compare(one(0, 3), one(9.9, 4)).isClear).toBe(false);
  });

  it('says no where the noise is not known, and where there is no difference', () => {
    expect(compare(one(0, Number.NaN), one(100, 0)).isClear).toBe(false);
    expect(compare(one(1, 0), one(1, 0)).isClear).toBe(false);
  });

  it('is of differences between windows where both were judged on the same ones, and of both errors where not', () => {
    const [easy, hard] = [
      [1, 3, 5, 7],
      [1.4, 3.6, 5.4, 7.6],
    ];
    const [a, b] = [easy, hard].map((byWindow) => one(byWindow.reduce((x, y) => x + y) / 4, 1.3, { byWindow }));
    // The differences are 0.4, 0.6, 0.4, 0.6.
    const { difference, noise, isClear } = compare(a, b);
    expect([difference, noise]).toEqual([expect.closeTo(0.5, 12), expect.closeTo(Math.sqrt((4 * 0.01) / 3 / 4), 12)]);
    expect(isClear).toBe(true);
    const elsewhere = one(b.mean, 1.3, { byWindow: hard, protocol: { tokensSha256: 'other' } });
    expect(compare(a, elsewhere)).toMatchObject({ noise: Math.hypot(1.3, 1.3), isClear: false });
  });

  it('adds what seeds make of either mean', () => {
    const seeded = (values: readonly number[]) =>
      spreadOf(gap('gptq', 2, values).map((row) => ({ ...row, byWindow: [row.value - 1, row.value + 1] })));
    const [a, b] = [seeded([1, 2, 3]), seeded([5, 5, 8])];
    // No window is harder for one than for the other: what is left are variances of 1 and 3 over three seeds.
    expect(compare(a, b).noise).toBeCloseTo(Math.sqrt(1 / 3 + 3 / 3), 12);
  });

  it('finds what no seed changes no better by a last bit, as other machines give it', () => {
    const values = [0.31, 0.12, 0.57, 0.2];
    const [a, b] = [values, values.map((value, i) => value + (i % 2 === 0 ? 1e-9 : -0.9e-9))].map((byWindow) =>
      spreadOf([0, 1, 2].map(() => ({ ...gap('rtn', 2, [byWindow.reduce((x, y) => x + y) / 4])[0], byWindow }))),
    );
    expect(compare(a, b).difference).not.toBe(0);
    expect(compare(a, b).isClear).toBe(false);
  });

  it('says as often as it should that two of one kind differ', () => {
    let found = 0;
    const trials = 400;
    for (let trial = 0; trial < trials; trial++) {
      const rng = createRng(trial);
      // What windows have in common is a hundred times what is between recipes.
      const shared = rng.at('text').normal(40);
      const recipe = (name: string) =>
        spreadOf(
          [0, 1, 2].map((seed) => {
            const [own, ...errors] = rng.at(name, seed).normal(41);
            const byWindow = errors.map((error, w) => 100 * shared[w] + own + error);
            return { value: byWindow.reduce((a, b) => a + b) / 40, stderr: 100 / Math.sqrt(40), byWindow, protocol: {} };
          }),
        );
      if (compare(recipe('a'), recipe('b')).isClear) found++;
    }
    // 5 % of a normal; twice that with deviations of three seeds each.
    expect(found / trials).toBeGreaterThan(0.04);
    expect(found / trials).toBeLessThan(0.14);
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
    expect(summarizeRows(rows)).toContain('- tiny, 2 bits, groups of 32: rtn-2 0.5 ± 0.02 > gptq-2 0.25 ± 0.022 ≈ lrec-2 0.235 ± 0.025');
    expect(summarizeRows(rows)).not.toContain('tiny, 4 bits, groups');
  });

  it('ranks by windows where there are some: errors that overlap are no matter', () => {
    const byWindow = [0.1, 0.4, 0.2, 0.5];
    const [a, b] = [0, 0.01].map((less) => byWindow.map((value, i) => value - less * (1 + i / 10)));
    const paired = [...gap('rtn', 2, [0.3], { byWindow: a, stderr: 0.1 }), ...gap('gptq', 2, [0.2885], { byWindow: b, stderr: 0.1 })];
    expect(summarizeRows(paired)).toContain('rtn-2 0.3 ± 0.1 > gptq-2 0.2885 ± 0.1');
    expect(summarizeRows(paired.map((row) => ({ ...row, byWindow: undefined })))).toContain('rtn-2 0.3 ± 0.1 ≈ gptq-2 0.2885 ± 0.1');
  });

  it('ranks what has quantized inputs apart, and holds it against rounding of both', () => {
    const w4a4 = (method: string, value: number) => gap(method, 4, [value], { groupSize: -1, activationBits: 4, recipe: `${method}-w4a4` });
    const both = [
      ...gap('rtn', 4, [0.02], { groupSize: -1, stderr: 0.001 }),
      ...gap('gptq', 4, [0.01], { groupSize: -1, stderr: 0.001 }),
      ...w4a4('activations+rtn', 0.4),
      ...w4a4('rotate+gptq', 0.1),
    ];
    const text = summarizeRows(both);
    expect(text).toContain('- tiny, 4 bits, per channel: rtn-4 0.02 ± 0.001 > gptq-4 0.01 ± 0.001\n');
    expect(text).toContain('- tiny, W4A4, per channel: activations+rtn-w4a4 0.4 ± 0.02 > rotate+gptq-w4a4 0.1 ± 0.02\n');
    expect(text).toContain('- tiny, W4A4: rotate+gptq wins back 75 % of the loss that activations+rtn adds (0.400 ± 0.020 nats a token)');
    expect(text).toContain('- tiny, 4 bits: gptq wins back 50 % of the loss that rtn adds (0.0200 ± 0.0010 nats a token)');
  });

  it('says what ± is, and what seeds make of the loss where there are several', () => {
    expect(summarizeRows(rows)).toContain(
      'over the held-out text and over the seeds. tiny: between 2 seeds the added loss deviates by 0 to 0.02121',
    );
    expect(summarizeRows(gap('rtn', 2, [1]))).toContain('what another seed would change is not in it.');
    expect(summarizeRows(gap('rtn', 2, [1], { stderr: 0 }))).not.toContain('±');
    expect(summarizeRows(gap('rtn', 2, [1, 1]))).toMatch(/over the held-out text and over the seeds\.$/m);
  });

  it('says what failed, and not what no evaluator could judge', () => {
    expect(summarizeRows([failedRow('rtn', 2, 'NOT_APPLICABLE')])).not.toContain('Failed');
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
    [[0.9, 1, 1.1], 'within noise'],
  ])('%j is %s', (values, verdict) => {
    const [line] = diffRuns(before, gap('gptq', 2, values)).lines;
    expect(line).toMatchObject({ verdict, evaluator: 'loss-gap' });
    expect(line.noise).toBeCloseTo(Math.SQRT2 * Math.hypot(0.1 / Math.sqrt(3), 0.02), 12);
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
