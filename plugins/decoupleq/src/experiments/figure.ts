// Parts of the figures: Vega-Lite specifications without data.

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

export const logarithmic: Specification = { type: 'log', nice: false };

/** A logarithmic axis of bases of two: amounts of data, counts of steps. */
export const doubling: Specification = { type: 'log', base: 2, nice: false };

export interface Curves {
  readonly x: Channel;
  readonly y: Channel;
  /** One line for each of its values. */
  readonly color: { readonly field: string; readonly title: string; readonly sort?: readonly string[] };
}

/** Lines through means over seeds, and bars of one standard deviation to either side. */
export function curves({ x, y, color }: Curves): Specification {
  const across = { type: 'quantitative', ...x };
  const shade = { type: 'nominal', ...color };
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
  const line = { type: 'nominal', ...y };
  return {
    layer: [
      { mark: { type: 'point', filled: true, size: 60 }, encoding: { x: { ...across, aggregate: 'mean' }, y: line } },
      { mark: { type: 'errorbar', extent: 'stdev', ticks: { size: 5 } }, encoding: { x: across, y: line } },
    ],
  };
}

/** Fields of a row become rows of their own, { measure, value }, so that there can be a panel for each. */
export function measuresOf(fields: readonly string[]): Specification {
  return { transform: [{ fold: fields, as: ['measure', 'value'] }, { filter: 'isValid(datum.value)' }] };
}

interface PanelSettings {
  /** Field with a row of panels for each of its values; null for one row. */
  readonly row?: string | null;
  /** Of a panel, in pixels. */
  readonly width?: number;
  readonly height?: number;
  /** Axes that differ from panel to panel: losses of models, and measures, differ by orders of magnitude. */
  readonly independent?: readonly ('x' | 'y')[];
}

/** One panel for each model, side by side, in one row for each value of `row`. */
export function panels(
  spec: Specification,
  { row = 'groups', width = 320, height = 220, independent = ['y'] }: PanelSettings = {},
): Specification {
  return {
    facet: {
      column: { field: 'model', type: 'nominal', title: null, sort: ['tiny', 'stories15M'] },
      ...(row !== null && { row: { field: row, type: 'nominal', title: null } }),
    },
    spec: { width, height, ...spec },
    resolve: { scale: Object.fromEntries(independent.map((axis) => [axis, 'independent'])) },
  };
}
