// An experiment's figure: its Vega-Lite specification with rows and our theme, drawn as SVG without a browser.
import type { ExperimentRow } from '@lowbit/core';
import { svgOf } from '../vega-svg.js';
import { resultsIn } from './rows.js';

export interface Figure {
  /** With its data: any Vega-Lite editor shows it. */
  readonly specification: Readonly<Record<string, unknown>>;
  readonly svg: string;
}

/** Colours that people with any kind of colour vision can tell apart: Okabe and Ito's without the yellow that white swallows, then Tol's. */
const colours = ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000', '#999999', '#882255', '#999933'];

const theme = {
  background: 'white',
  padding: 12,
  font: 'system-ui, sans-serif',
  title: { fontSize: 15, fontWeight: 600, anchor: 'start', offset: 12 },
  header: { labelFontSize: 13, titleFontSize: 13 },
  axis: { labelFontSize: 12, titleFontSize: 13, titleFontWeight: 'normal', gridColor: '#e6e6e6', labelColor: '#222', titleColor: '#222' },
  legend: { labelFontSize: 12, titleFontSize: 13, titleFontWeight: 'normal', labelLimit: 320 },
  line: { strokeWidth: 2 },
  view: { continuousWidth: 480, continuousHeight: 300, stroke: '#cccccc' },
  range: { category: colours, ordinal: { scheme: 'viridis' }, ramp: { scheme: 'viridis' }, heatmap: { scheme: 'viridis' } },
};

/**
 * Draws the rows of arms that did not fail. Equal rows give equal bytes.
 * @throws FIGURE_SPEC when the specification cannot be read or drawn.
 */
export async function drawFigure(
  specification: Readonly<Record<string, unknown>>,
  title: string,
  rows: readonly ExperimentRow[],
): Promise<Figure> {
  const { config, ...own } = specification;
  const whole = {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    title,
    ...own,
    config: { ...theme, ...(config as object | undefined) },
    data: { values: resultsIn(rows) },
  };
  return { specification: whole, svg: `${await svgOf(whole, title)}\n` };
}
