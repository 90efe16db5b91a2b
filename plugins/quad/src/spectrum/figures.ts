// Figures of a spectrum: Vega-Lite specifications without data, and the rows that they draw.
import type { ExperimentRow } from '@lowbit/core';
import type { ActivationSpectrum } from './activation-spectrum.js';
import { bandsOver } from './channel-bands.js';
import { inputBases } from './input-bands.js';

const siteTitles = { pre: 'what norms read', post: 'what norms give' } as const;

/** One row for each rank and site. */
export function energyRows({ energy }: ActivationSpectrum): ExperimentRow[] {
  return energy.flatMap(({ rank, pre, post }) => [
    { rank, of: siteTitles.pre, share: pre },
    { rank, of: siteTitles.post, share: post },
  ]);
}

/** Energy against the number of directions. */
export const energyFigure: Readonly<Record<string, unknown>> = {
  mark: { type: 'line', point: { size: 40 } },
  encoding: {
    x: { field: 'rank', type: 'quantitative', title: 'directions', scale: { type: 'log', base: 2, nice: false, padding: 12 } },
    y: { field: 'share', type: 'quantitative', title: 'share of the energy', axis: { format: '%' }, scale: { domain: [0, 1] } },
    color: { field: 'of', type: 'nominal', title: 'energy of', sort: Object.values(siteTitles) },
  },
};

const basisTitles = { raw: 'raw (weight of the norm included)', rotated: 'rotated', decomposed: 'decomposed and rotated' } as const;

/** Columns of a panel; neighbouring channels share one where there are more of them. */
const LARGEST_COLUMNS = 256;

/** One row for each input, basis and column of channels; channels that stay in full precision lie below 0. */
export function bandRows({ inputs }: ActivationSpectrum): ExperimentRow[] {
  return inputs.flatMap(({ block, input, basis, outliers, channels, bands }, order) => {
    const stretch = Math.ceil(channels / LARGEST_COLUMNS);
    const shared = { order, input: `${block}: ${input}`, basis: basisTitles[basis] };
    const rows: ExperimentRow[] = [];
    for (let start = 0; start < channels; ) {
      const isOutlier = start < outliers;
      const end = Math.min(start + stretch, isOutlier ? outliers : channels);
      const channel = (start + end - 1) / 2 - outliers;
      rows.push({ ...shared, part: isOutlier ? 'full precision' : 'rounded', channel, ...bandsOver(bands, start, end) });
      start = end;
    }
    return rows;
  });
}

const bandTitles = ['all tokens', '1 % to 99 % of tokens', '25 % to 75 %'] as const;
const bandColors = ['#cfe3f1', '#6baed6', '#08519c'] as const;
const bandFields = [
  ['min', 'max'],
  ['p1', 'p99'],
  ['p25', 'p75'],
] as const;

/** Bands of each channel; a row of panels for each input, a panel for each basis, one scale for all. */
export const bandsFigure: Readonly<Record<string, unknown>> = {
  facet: {
    row: {
      field: 'input',
      type: 'nominal',
      title: null,
      sort: { field: 'order', op: 'min' },
      header: { labelFontSize: 11, labelExpr: "split(datum.label, ': ')" },
    },
    column: { field: 'basis', type: 'nominal', title: null, sort: inputBases.map((basis) => basisTitles[basis]) },
  },
  spacing: 10,
  spec: {
    width: 260,
    height: 130,
    encoding: {
      x: { field: 'channel', type: 'quantitative', title: 'channel', scale: { nice: false, zero: false }, axis: { grid: false } },
      detail: { field: 'part', type: 'nominal' },
    },
    layer: bandFields.map(([low, high], i) => ({
      mark: { type: 'area', interpolate: 'step', opacity: 1 },
      encoding: {
        y: { field: low, type: 'quantitative', title: 'activation' },
        y2: { field: high },
        color: {
          datum: bandTitles[i],
          scale: { domain: bandTitles, range: bandColors },
          legend: { orient: 'top', title: null },
        },
      },
    })),
  },
};
