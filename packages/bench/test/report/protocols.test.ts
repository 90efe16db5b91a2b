// The report of rows that were not all judged alike: values that do not compare are neither ranked, drawn together nor averaged.
import { describe, expect, it } from 'vitest';
import { renderReport } from '../../src/report/page.js';
import { renderPlot } from '../../src/report/plot.js';
import type { BenchRow } from '../../src/row.js';
import { run } from './rows.js';

/** One seed of gptq-2 on another text, as far as the scores of text go. */
const judged = ({ model, recipe, seed, evaluator }: BenchRow): object =>
  model === 'tiny' && recipe === 'gptq-2' && seed === 1 && evaluator !== 'layer-error' ? { tokensSha256: 'b' } : { tokensSha256: 'a' };
const mixed = { ...run, rows: run.rows.map((row) => (row.value === null ? row : { ...row, protocol: judged(row) })) as BenchRow[] };

describe('a report of rows that were judged otherwise', () => {
  it('says so first, and has no best, no frontier and no mean of what does not compare', async () => {
    const page = await renderReport(mixed, { title: 'x' });
    const [, tiny, stories] = page.split('<div class="model"');
    const warning = 'Loss added: not all rows were judged by one protocol (tokensSha256); only values of one protocol compare.';
    expect(tiny.indexOf(warning)).toBeGreaterThan(0);
    expect(tiny.indexOf(warning)).toBeLessThan(tiny.indexOf('<h2>Best of each bit width</h2>'));
    expect(tiny).toContain('By layer error.');
    expect(tiny).toContain('2 protocols');
    expect(tiny).toContain('figure data-metric="layer-error"');
    for (const name of ['loss-gap', 'perplexity']) {
      expect(tiny).not.toContain(`figure data-metric="${name}"`);
      expect(stories).toContain(`figure data-metric="${name}"`);
    }
    expect(stories).not.toMatch(/class="warning"|protocols/);
  });

  it('is not drawn as one plot', async () => {
    await expect(renderPlot(mixed, { model: 'tiny' })).rejects.toThrow(/REPORT_PLOT.*loss-gap on tiny.*protocol/);
    expect(await renderPlot(mixed, { model: 'tiny', score: 'layer-error' })).toContain('<title>Layer error');
  });
});

describe('the protocol', () => {
  it('has the engine with its threads', async () => {
    const engine = 'onnxruntime 1.30.0, cpu, 1 threads';
    const rows = run.rows.map((row) => ({ ...row, backend: engine, protocol: { backend: 'onnxruntime:cpu' } })) as BenchRow[];
    const page = await renderReport({ ...run, rows }, { title: 'x' });
    expect(page).toContain(`<dt>backend</dt><dd>${engine}</dd>`);
    expect(page).not.toContain('onnxruntime:cpu');
  });
});
