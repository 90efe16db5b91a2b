// Parts of the figures: Vega-Lite specifications without data.
import { granularities } from './arms.js';

export type Specification = Readonly<Record<string, unknown>>;

export interface Channel {
  readonly field: string;
  readonly title: string | null;
  /** 'quantitative' unless told otherwise. */
  readonly type?: 'quantitative' | 'ordinal' | 'nominal';
  readonly scale?: Specification;
  readonly sort?: readonly string[];
  readonly axis?: Specification;
}

/** A logarithmic axis that ends a little beyond the data. */
export const logarithmic: Specification = { type: 'log', nice: false, padding: 12 };

/** The same for what doubles from point to point. */
export const doubling: Specification = { ...logarithmic, base: 2 };

export interface Shade {
  readonly field: string;
  readonly title: string;
  readonly sort?: readonly string[];
  readonly scale?: Specification;
}

/** A colour for each value of a field. */
export function shadeOf(shade: Shade): Specification {
  return { type: 'nominal', ...shade };
}

export interface Curves {
  readonly x: Channel;
  readonly y: Channel;
  /** One line for each of its values. */
  readonly color: Shade;
}

/** Lines through means over seeds, and bars of one standard deviation to either side. */
export function curves({ x, y, color }: Curves): Specification {
  const across = { type: 'quantitative', ...x };
  const shade = shadeOf(color);
  const up = { type: 'quantitative', ...y };
  return {
    layer: [
      {
        mark: { type: 'line', point: { size: 40 } },
        encoding: { x: across, y: { ...up, aggregate: 'mean' }, color: shade },
      },
      {
        mark: { type: 'errorbar', extent: 'stdev', ticks: { size: 5 }, clip: true },
        encoding: { x: across, y: up, color: shade },
      },
    ],
  };
}

/** Means over seeds as dots, one line of the panel for each value of `y`, and bars of one standard deviation to either side. */
export function dots({ x, y }: { readonly x: Channel; readonly y: Channel }): Specification {
  const across = { type: 'quantitative', ...x };
  const line = { type: 'nominal', axis: { labelLimit: 260 }, ...y };
  return {
    layer: [
      { mark: { type: 'point', filled: true, size: 60 }, encoding: { x: { ...across, aggregate: 'mean' }, y: line } },
      { mark: { type: 'errorbar', extent: 'stdev', ticks: { size: 5 } }, encoding: { x: across, y: line } },
    ],
  };
}

interface PanelSettings {
  /** Field with a row of panels for each of its values; the granularity unless told otherwise. */
  readonly row?: Specification;
  /** Of a panel, in pixels. */
  readonly width?: number;
  readonly height?: number;
  /** Axes that differ from panel to panel: losses of models, and measures, differ by orders of magnitude. */
  readonly independent?: readonly ('x' | 'y')[];
}

const byGranularity: Specification = { field: 'groups', sort: granularities.map(({ groups }) => groups) };

/** One panel for each model, side by side, in one row for each value of `row`. */
export function panels(
  spec: Specification,
  { row = byGranularity, width = 320, height = 220, independent = ['y'] }: PanelSettings = {},
): Specification {
  return {
    facet: {
      column: { field: 'model', type: 'nominal', title: null, sort: ['tiny', 'stories15M'] },
      row: { type: 'nominal', title: null, ...row },
    },
    spec: { width, height, ...spec },
    resolve: { scale: Object.fromEntries(independent.map((axis) => [axis, 'independent'])) },
  };
}

/** As `panels`, with a row for each of some measured fields; `spec` draws 'value'. */
export function measurePanels(fields: readonly string[], spec: Specification, settings: PanelSettings = {}): Specification {
  return {
    transform: [{ fold: fields, as: ['measure', 'value'] }, { filter: 'isValid(datum.value)' }],
    ...panels(spec, { height: 150, ...settings, row: { field: 'measure', sort: fields } }),
  };
}
