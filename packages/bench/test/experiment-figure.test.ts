// Figures as SVG, without a browser.
import { LowbitError } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { drawFigure } from '../src/experiment/figure.js';
import { compared } from './experiments.js';

const rows = ['rtn', 'gptq'].flatMap((method, i) =>
  [0, 1, 2].map((seed) => ({ model: 'tiny', arm: method, method, seed, 'loss-gap': 1 + i + 0.1 * seed })),
);

/** Names of elements that are opened and closed in order: the text is well-formed. */
function elementsOf(svg: string): string[] {
  const open: string[] = [];
  const seen: string[] = [];
  for (const [, closing, name, empty] of svg.matchAll(/<(\/?)([\w:]+)[^<>]*?(\/?)>/g)) {
    if (closing) expect(open.pop()).toBe(name);
    else seen.push(name);
    if (!closing && !empty) open.push(name);
  }
  expect(open).toEqual([]);
  return seen;
}

describe('drawFigure', () => {
  it('draws a mark for each row, titled, on white', async () => {
    const { svg, specification } = await drawFigure(compared.figure, 'A & B', rows);
    expect(svg.startsWith('<svg xmlns="http://www.w3.org/2000/svg"')).toBe(true);
    expect(elementsOf(svg)[0]).toBe('svg');
    expect(svg).toContain('fill="white"');
    expect(svg).toContain('A &amp; B');
    expect(svg.match(/aria-roledescription="bar"/g)).toHaveLength(rows.length);
    expect(specification).toMatchObject({ mark: 'bar', data: { values: rows }, title: 'A & B' });
  });

  it('leaves out the dense model and what failed', async () => {
    const more = [...rows, { ...rows[0], arm: 'dense' }, { ...rows[0], failure: 'X' }];
    expect((await drawFigure(compared.figure, 'A', more)).specification['data']).toEqual({ values: rows });
  });

  it('gives the same bytes for the same rows, also where intervals are bootstrapped and marks are clipped', async () => {
    const encoding = compared.figure['encoding'];
    const figure = {
      layer: [
        { mark: { type: 'point', clip: true }, encoding },
        { mark: { type: 'errorbar', extent: 'ci' }, encoding },
      ],
    };
    const first = await drawFigure(figure, 'A', rows);
    expect(first.svg).toContain('clip-path');
    expect((await drawFigure(figure, 'A', rows)).svg).toBe(first.svg);
    expect((await drawFigure(figure, 'A', rows.slice(1))).svg).not.toBe(first.svg);
  });

  it('draws without rows, and lets an experiment restyle', async () => {
    const figure = { ...compared.figure, title: 'Own', config: { background: '#eee' } };
    const { svg } = await drawFigure(figure, 'A', []);
    expect(svg).toContain('fill="#eee"');
    expect(svg).toContain('Own');
  });

  it.each([[{}], [{ mark: 'bars', encoding: {} }], [{ ...compared.figure, transform: [{ calculate: 'datum.(', as: 'x' }] }]])(
    'says so when %j cannot be drawn',
    async (figure) => {
      const failure = drawFigure(figure, 'A', rows);
      await expect(failure).rejects.toThrow(LowbitError);
      await expect(failure).rejects.toMatchObject({ code: 'FIGURE_SPEC' });
    },
  );
});
