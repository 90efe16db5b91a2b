// The Markdown table and the ranking that are made from rows.
import { describe, expect, it } from 'vitest';
import { closedGaps } from '../src/ranking.js';
import type { ScoreRow } from '../src/row.js';
import { markdownTable } from '../src/table.js';
import { failedRow, scoreRow } from './rows.js';

describe('markdownTable', () => {
  it('has a line per recipe and a column per score', () => {
    const rows = [
      scoreRow('dense', null, 12.3456),
      scoreRow('gptq', 2, 20.5),
      scoreRow('gptq', 2, 0.51, { evaluator: 'kl', stderr: 0, peakRssMiB: 420 }),
      failedRow('rtn', 2, 'GROUP_SIZE'),
    ];
    expect(markdownTable(rows).split('\n')).toEqual([
      '| model | recipe | bits | group | bits/weight |   perplexity |   kl | seconds | peak MiB |',
      '| ----- | ------ | ---: | ----: | ----------: | -----------: | ---: | ------: | -------: |',
      '| tiny  | dense  |      |       |       16.00 | 12.35 ± 0.01 |      |     1.5 |      300 |',
      '| tiny  | gptq-2 |    2 |    32 |        2.50 |  20.5 ± 0.01 | 0.51 |     1.5 |      420 |',
      '| tiny  | rtn-2  |    2 |    32 |             |   GROUP_SIZE |      |     1.5 |      300 |',
    ]);
  });

  it('shows the mean over seeds and its error, of the text and between seeds', () => {
    const rows = [scoreRow('dense', null, 12), scoreRow('gptq', 2, 20), scoreRow('gptq', 2, 23, { seed: 1 }), scoreRow('rtn', 2, 30)];
    const lines = markdownTable([...rows, { ...failedRow('rtn', 2, 'CHOLESKY'), seed: 1 }]).split('\n');
    expect(lines).toHaveLength(5);
    expect(lines[0]).toContain('| seeds |');
    // The deviation of 20 and 23 over the root of two; of the text 0.01.
    expect(lines[3]).toMatch(/\| +2 \| +21.5 ± 1.5 \|/);
    expect(lines[4]).toMatch(/\| +2 \| +30 ± 0.01, 1 failed \|/);
  });

  it('says what an evaluator failed with in the columns of its scores, and where there are none in its own', () => {
    const failed = (evaluator: string) => ({ ...failedRow('rtn', 2, 'SCORE_NAN'), evaluator });
    const gsm8k = scoreRow('gptq', 2, 0.5, { evaluator: 'gsm8k/strict-match' });
    const lines = markdownTable([scoreRow('gptq', 2, 20), gsm8k, failed('text'), failed('gsm8k'), failed('memory')]).split('\n');
    expect(lines[0]).toMatch(/\| +perplexity \| gsm8k\/strict-match \| +memory \| seconds/);
    expect(lines[3]).toMatch(/\| +SCORE_NAN \| +SCORE_NAN \| SCORE_NAN \|/);
  });

  it('counts a seed that failed as one, however few rows it has', () => {
    const rows = [
      scoreRow('rtn', 2, 30),
      scoreRow('rtn', 2, 1, { evaluator: 'kl' }),
      { ...failedRow('rtn', 2, 'CHOLESKY'), seed: 1, seconds: 0 },
    ];
    // 1.5 s and none, of which the first is in two rows.
    expect(markdownTable(rows).split('\n')[2]).toMatch(/\| +0\.8 \| +300 \|$/);
  });

  it('shows no error where none is known', () => {
    expect(markdownTable([scoreRow('rtn', 2, 30, { stderr: Number.NaN })])).not.toContain('±');
  });

  it('writes very small, large and infinite values so that they can be read', () => {
    const values = [1.2e-5, 0, 123456, 3.2e9, Number.POSITIVE_INFINITY];
    const cells = values.map((value) =>
      markdownTable([scoreRow('rtn', 2, value, { stderr: 0 })])
        .split('\n')[2]
        .split('|')[6]
        .trim(),
    );
    expect(cells).toEqual(['1.20e-5', '0', '123456', '3.20e+9', 'Infinity']);
  });
});

describe('closedGaps', () => {
  const gap = (method: string, bits: number, value: number, more: Partial<ScoreRow> = {}) =>
    scoreRow(method, bits, value, { evaluator: 'loss-gap', ...more });

  it('is the share of the added loss that the method wins back, over the mean of the seeds', () => {
    const rows = [
      gap('rtn', 2, 2),
      gap('gptq', 2, 0.9),
      gap('gptq', 2, 1.1, { seed: 1 }),
      gap('rtn', 3, 0.5),
      gap('gptq', 3, 0.2),
      gap('rtn', 4, 0.3),
      scoreRow('rtn', 2, 99, { evaluator: 'kl' }),
      failedRow('gptq', 4, 'CHOLESKY'),
    ];
    const gaps = closedGaps(rows, 'gptq', 'rtn');
    expect(gaps.map(({ bits }) => bits)).toEqual([3, 2]);
    expect(gaps[0].share).toBeCloseTo(0.6, 12);
    expect(gaps[1]).toMatchObject({ model: 'tiny', method: 'gptq', baseline: 'rtn', added: { value: 1 } });
    expect(gaps[1].share).toBeCloseTo(0.5, 12);
  });

  it('compares recipes of equal group size, and none where the baseline has several', () => {
    const rows = [
      gap('rtn', 2, 2),
      gap('gptq', 2, 1),
      gap('gptq', 2, 1.8, { recipe: 'gptq-2-g64', groupSize: 64 }),
      gap('rtn', 3, 1),
      gap('rtn', 3, 0.8, { recipe: 'rtn-3-mse' }),
      gap('gptq', 3, 0.5),
    ];
    expect(closedGaps(rows, 'gptq', 'rtn')).toMatchObject([{ recipe: 'gptq-2', baselineRecipe: 'rtn-2', groupSize: 32, share: 0.5 }]);
  });

  it('compares what has quantized inputs with what has them too', () => {
    const rounded = { activationBits: 4, groupSize: -1 };
    const rows = [
      gap('rtn', 4, 1, { groupSize: -1 }),
      gap('gptq', 4, 0.5, { groupSize: -1 }),
      gap('activations+rtn', 4, 2, rounded),
      gap('activations+gptq', 4, 1, rounded),
    ];
    expect(closedGaps(rows, 'activations+gptq', 'activations+rtn')).toMatchObject([{ share: 0.5, activationBits: 4 }]);
    expect(closedGaps(rows, 'activations+gptq', 'rtn')).toEqual([]);
    expect(closedGaps(rows, 'gptq', 'activations+rtn')).toEqual([]);
  });

  it('claims nothing where the baseline cannot be told from the dense model', () => {
    const [gap8] = closedGaps([gap('rtn', 8, 0.02), gap('gptq', 8, 0.03)], 'gptq', 'rtn');
    expect(gap8.share).toBeUndefined();
  });
});
