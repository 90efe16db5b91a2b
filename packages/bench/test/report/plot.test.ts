// The plot of a run as a picture: complete in itself, whatever names are in it, and of what was asked for.
import { describe, expect, it } from 'vitest';
import { renderPlot } from '../../src/report/plot.js';
import { hostileRun, run } from './rows.js';

const only = (model: string) => ({ ...run, rows: run.rows.filter((row) => row.model === model) });

describe('renderPlot', () => {
  it('needs neither styles, links nor anything that is loaded', async () => {
    const svg = await renderPlot(only('tiny'));
    expect(svg).toMatch(/^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" width="\d+" height="\d+"/);
    expect(svg).not.toMatch(/var\(|undefined|NaN|<a\b|href=|<script|url\(/);
    expect(svg).toContain('<title>Loss added (nats per token, logarithmic), tiny</title>');
    for (const recipe of ['rtn-2', 'gptq-2', 'rtn-4', 'gptq-4', 'gptq-w4a4']) expect(svg).toContain(`>${recipe}</text>`);
    expect(await renderPlot(only('tiny'))).toBe(svg);
  });

  it('draws the model and the score that are asked for', async () => {
    const svg = await renderPlot(run, { model: 'stories15M', score: 'perplexity' });
    expect(svg).toContain('<title>Perplexity (logarithmic), stories15M</title>');
    expect(svg).toContain('>dense 20</text>');
  });

  it('stays a picture where names are markup', async () => {
    const svg = await renderPlot(hostileRun);
    expect(svg).not.toMatch(/<(?:img|script|a)\b/);
    expect(svg.match(/<svg\b/g)).toHaveLength(2);
  });

  it.each([
    [{}, /choose a model of tiny, stories15M/],
    [{ model: 'tin' }, /no model 'tin' in this run; did you mean 'tiny'/],
    [{ model: 'tiny', score: 'perplexty' }, /has the score 'perplexty'; did you mean 'perplexity'/],
  ])('refuses %o', async (options, message) => {
    await expect(renderPlot(run, options)).rejects.toThrow(message);
  });
});
