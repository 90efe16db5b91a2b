// What the report is made of, without a browser: axes, labels, the frontier, curves, numbers, escaping, and rows that are not rows.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RunFiles } from '../../src/folder.js';
import { chart } from '../../src/report/chart.js';
import { curvesOf } from '../../src/report/curves.js';
import { html } from '../../src/report/html.js';
import { placeLabels } from '../../src/report/labels.js';
import { metricsOf } from '../../src/report/metrics.js';
import { columnOf } from '../../src/report/number-column.js';
import { renderReport } from '../../src/report/page.js';
import { frontier } from '../../src/report/pareto.js';
import { axisOf, linearAxis, pixelsOf } from '../../src/report/scales.js';
import { byWidth, partsOf, type Summary, summarize } from '../../src/report/summary.js';
import { failedRow, scoreRow } from '../rows.js';
import { run } from './rows.js';

describe('axes', () => {
  const values = fc.array(fc.double({ min: 1e-6, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 20 });

  it('hold all values and their ticks, from end to end', () => {
    fc.assert(
      fc.property(values, (all) => {
        for (const axis of [axisOf(all), linearAxis(all)]) {
          const [from, to] = axis.domain;
          for (const value of [...all, ...axis.ticks]) expect(value >= from && value <= to).toBe(true);
          expect(axis.ticks.length).toBeGreaterThan(1);
          expect(axis.ticks.length).toBeLessThan(16);
          const toPixels = pixelsOf(axis, 300);
          expect(toPixels(from)).toBeCloseTo(0, 6);
          expect(toPixels(to)).toBeCloseTo(300, 6);
        }
      }),
      // Values that differ in their last bits.
      {
        examples: [
          [[0.1 + 0.2, 0.3]],
          [[1e6, 1e6 - 1e-9]],
          [[1e-6, 1.0000000000000002e-6]],
          [[5, 5 * (1 + 2e-9)]],
          [[1, 4.000000000001]],
          [[1e-12, 1e12]],
        ],
      },
    );
  });

  it('count by factors where values differ by factors, and never across zero', () => {
    expect(axisOf([0.01, 2])).toMatchObject({ type: 'log', ticks: [0.01, 0.03, 0.1, 0.3, 1, 3] });
    expect(axisOf([0.02, 0.2])).toMatchObject({ type: 'log', ticks: [0.02, 0.05, 0.1, 0.2] });
    expect(axisOf([0.3, 0.9])).toMatchObject({ type: 'linear', ticks: [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9] });
    expect(axisOf([-1, 100]).type).toBe('linear');
  });
});

describe('labels', () => {
  it('cover neither each other nor points, and stay inside', () => {
    const anchor = fc.record({
      x: fc.integer({ min: 0, max: 400 }),
      y: fc.integer({ min: 0, max: 200 }),
      text: fc.string({ minLength: 1, maxLength: 20 }),
    });
    fc.assert(
      fc.property(fc.array(anchor, { maxLength: 30 }), (anchors) => {
        const boxes = placeLabels(anchors, [], 400, 200).flatMap((label, own) => {
          if (!label) return [];
          // A narrower font than the one that room was left for.
          const width = anchors[own].text.length * 6;
          const left = label.x - { left: 0, center: width / 2, right: width }[label.align];
          return [{ own, left, right: left + width, top: label.y - 6, bottom: label.y + 6 }];
        });
        for (const { own, left, right, top, bottom } of boxes) {
          expect(left >= 0 && right <= 400 && top >= 0 && bottom <= 200).toBe(true);
          const isCovered = ({ x, y }: { x: number; y: number }): boolean => x > left && x < right && y > top && y < bottom;
          expect(anchors.some((other, i) => i !== own && isCovered(other))).toBe(false);
          for (const other of boxes) {
            const isApart = other.left >= right || left >= other.right || other.top >= bottom || top >= other.bottom;
            expect(other.own === own || isApart).toBe(true);
          }
        }
      }),
    );
  });

  it('leave the frontier’s line free, and are left out where there is no room', () => {
    const [label] = placeLabels(
      [{ x: 100, y: 50, text: 'gptq-2' }],
      [
        [100, 50],
        [300, 50],
      ],
      400,
      100,
    );
    expect(label).toMatchObject({ align: 'right' });
    expect(placeLabels([{ x: 5, y: 5, text: 'a name that is too long' }], [], 60, 20)).toEqual([undefined]);
  });
});

describe('a chart', () => {
  it('shows names as they are, whatever they look like', async () => {
    const name = `a role="x" <b> opacity="1" $& $' transform="x 1.2345"`;
    const data = { values: [{ name, at: 1.2345 }] };
    const text = { field: 'name', type: 'nominal' };
    const { text: svg } = await chart(
      { data, mark: 'text', encoding: { text, description: text, x: { field: 'at', type: 'quantitative' } } },
      name,
    );
    const escaped = name.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
    expect(svg).toContain(`>${escaped}</text>`);
    expect(svg).toContain(`aria-label="${escaped.replaceAll('"', '&quot;')}"`);
    expect(svg).toMatch(/^<svg role="group" aria-label="a role=&quot;x&quot; &lt;b&gt; opacity=&quot;1&quot; \$&amp; \$&#39; /);
    // What is dropped is dropped.
    expect(svg).not.toMatch(/<[^>]* (?:xmlns|font-family|aria-roledescription|opacity)="/);
    expect(svg).not.toMatch(/<[^>]* transform="[^"]*\.\d\d/);
  });
});

describe('the frontier', () => {
  const point = fc.record({ x: fc.integer({ min: 2, max: 5 }), value: fc.integer({ min: 0, max: 8 }) });

  it('has what none beats in both, for scores of either direction', () => {
    fc.assert(
      fc.property(fc.array(point, { minLength: 1, maxLength: 20 }), fc.boolean(), (points, higherIsBetter) => {
        const all = points.map(({ x, value }) => ({ x, score: { value, higherIsBetter } as Summary }));
        const sign = higherIsBetter ? -1 : 1;
        const best = frontier(all);
        for (const { x, score } of all) {
          const isBeaten = all.some(
            (o) => o.x <= x && sign * o.score.value <= sign * score.value && (o.x < x || sign * o.score.value < sign * score.value),
          );
          expect(best.some((one) => one.x === x && one.score.value === score.value)).toBe(!isBeaten);
        }
      }),
    );
  });
});

describe('curves', () => {
  const line = (record: Readonly<Record<string, unknown>>, path = '') => ({ model: 'm', recipe: 'r', seed: 0, path, record });

  it('are the losses of records that count, a training each time the count starts again', () => {
    const curves = curvesOf([
      line({ round: 1, loss: 3, kl: 0.5, learningRate: 0.1 }),
      line({ round: 2, loss: 2, kl: Number.NaN }),
      line({ losses: [3, 2], keptRound: 2 }),
      line({ round: 3, loss: 1, kl: 0.2 }),
      line({ step: 10, heldOutLoss: 5 }, 'model.layers.0'),
      line({ step: 20, heldOutLoss: 4 }, 'model.layers.0'),
      line({ round: 1, loss: 9 }),
      line({ round: 2, loss: 8 }),
      line({ epoch: 1, loss: 7 }),
    ]);
    expect(curves.map(({ loss, unit, path, points }) => [loss, unit, path, points.map(({ at, value }) => [at, value])])).toEqual([
      [
        'loss',
        'round',
        '',
        [
          [1, 3],
          [2, 2],
          [3, 1],
        ],
      ],
      [
        'loss',
        'round',
        '',
        [
          [1, 9],
          [2, 8],
        ],
      ],
      [
        'kl',
        'round',
        '',
        [
          [1, 0.5],
          [3, 0.2],
        ],
      ],
      [
        'heldOutLoss',
        'step',
        'model.layers.0',
        [
          [10, 5],
          [20, 4],
        ],
      ],
    ]);
  });
});

describe('summaries', () => {
  it('are means over seeds with the deviation between them, of parts too', () => {
    const row = (seed: number, value: number) =>
      scoreRow('rtn', 2, value, { evaluator: 'layer-error', seed, steps: [{}] as never, parts: { a: value, b: seed } });
    const [subject] = summarize([row(0, 1), row(1, 2), row(2, 6)]);
    const score = subject.scores.get('layer-error') as Summary;
    expect(score.value).toBe(3);
    expect(score.spread.deviation).toBeCloseTo(Math.sqrt((4 + 1 + 9) / 2), 12);
    expect(partsOf(score)).toEqual(
      new Map([
        ['a', 3],
        ['b', 1],
      ]),
    );
  });

  it('compare recipes of equal bits of weights and inputs', () => {
    const steps = [{}] as never;
    const rows = [
      scoreRow('dense', null, 1),
      scoreRow('gptq', 4, 1, { recipe: 'four', steps, activationBits: 4 }),
      scoreRow('gptq', 4, 1, { recipe: 'eight', steps, activationBits: 8 }),
      scoreRow('gptq', 4, 1, { steps }),
      scoreRow('mixed', 2, 1, { steps, bits: null, bitsPerWeight: 2.4 }),
    ];
    expect(byWidth(summarize(rows)).map(({ width, subjects }) => [width.label, subjects.map(({ recipe }) => recipe)])).toEqual([
      ['2', ['mixed-2']],
      ['W4A4', ['four']],
      ['W4A8', ['eight']],
      ['4', ['gptq-4']],
    ]);
  });

  it('come in the order of importance, what says the same left out', () => {
    const names = ['layer-error', 'arc_easy/acc', 'bits-per-weight', 'kl', 'perplexity', 'loss-gap'];
    expect(metricsOf(names).map(({ name }) => name)).toEqual(['loss-gap', 'perplexity', 'kl', 'arc_easy/acc', 'layer-error']);
  });
});

describe('what is written', () => {
  it('has equal decimals in a column, and no error that they hide', () => {
    const write = columnOf([{ value: 0.0342, error: 0.002 }, { value: 1.5, error: 0.00001 }, { value: -0.02 }]);
    expect(write({ value: 1.5, error: 0.002 }, true).text).toBe('<b>1.5000</b><span class="error" style="min-width:7.5ch">±0.0020</span>');
    expect(write({ value: -0.02, error: 0.00001 }).text).toBe('−0.0200<span class="error" style="min-width:7.5ch"></span>');
    expect(columnOf([{ value: 12 }, { value: -1e-9 }])({ value: -1e-9 }).text).toBe('0.00');
    expect(columnOf([{ value: 12 }])({ value: 3.2e9 }).text).toBe('3.20e+9');
  });

  it('is escaped unless it is HTML', () => {
    const inner = html`<b>${'<&"\'>'}</b>`;
    expect(html`<p title="${'"'}">${[inner, 1, undefined]}</p>`.text).toBe('<p title="&quot;"><b>&lt;&amp;&quot;&#39;&gt;</b>1</p>');
  });
});

describe('a failure', () => {
  it('has its place in the columns of the evaluator’s scores', async () => {
    const failed = (evaluator: string) => ({ ...failedRow('rtn', 2, 'SCORE_NAN'), steps: [{}] as never, evaluator });
    const [ok, broken] = ['gptq', 'rtn'].map((method) => ({
      ...scoreRow(method, 2, 0.5, { steps: [{}] as never }),
      evaluator: 'layer-error',
    }));
    const scores = ['perplexity', 'kl', 'gsm8k/strict-match'].map((evaluator) => ({ ...ok, evaluator }));
    const rows = [ok, broken, ...scores, failed('text'), failed('gsm8k')];
    const page = await renderReport({ record: undefined, rows, logs: [] }, { title: 'x' });
    // In the three columns, with the message as a hint.
    expect(page.match(/<span class="failure" title="SCORE_NAN: somewhere: something">SCORE_NAN</g)).toHaveLength(3);
  });
});

describe('a report of files that are not a benchmark’s', () => {
  const report = (rows: readonly unknown[]): Promise<string> =>
    renderReport({ record: undefined, rows, logs: [] } as unknown as RunFiles, { title: 'x' });

  it.each([
    ['no rows', [], /REPORT_ROWS.*no rows/],
    ['text', ['x'], /REPORT_ROWS.*row 1/],
    ['other objects', [run.rows[0], { model: 'tiny' }], /REPORT_ROWS.*row 2/],
  ])('says so: %s', async (_, rows, message) => {
    await expect(report(rows)).rejects.toThrow(message);
  });

  it('has a place for values that are not finite, and for records that are none', async () => {
    const broken = { ...run.rows[5], value: null, stderr: null };
    const logs = ['x', { recipe: 1 }] as unknown as RunFiles['logs'];
    const page = await renderReport({ record: undefined, rows: [run.rows[0], broken] as RunFiles['rows'], logs }, { title: 'x' });
    expect(page).toContain('NOT_FINITE');
  });
});
