// Parts of the figures: Vega-Lite specifications without data.

export type Specification = Readonly<Record<string, unknown>>;

/** An axis for what spans orders of magnitude; it ends a little beyond the data. */
export const logarithmic: Specification = { type: 'log', nice: false, padding: 12 };

export interface Axes {
  readonly x: Specification;
  readonly y: Specification;
  /** What is told apart by colour. */
  readonly color?: Specification;
}

/** Means over seeds on one axis, and bars of one standard deviation to either side. */
export function means(measured: 'x' | 'y', mark: 'line' | 'point', { x, y, color }: Axes): Specification {
  const axes = { x, y, ...(color && { color: { type: 'nominal', ...color } }) };
  const along = { ...axes[measured], type: 'quantitative' };
  return {
    layer: [
      {
        mark: mark === 'line' ? { type: 'line', point: { size: 40 } } : { type: 'point', filled: true, size: 60 },
        encoding: { ...axes, [measured]: { ...along, aggregate: 'mean' } },
      },
      {
        mark: { type: 'errorbar', extent: 'stdev', ticks: { size: 5 }, clip: true },
        encoding: { ...axes, [measured]: along },
      },
    ],
  };
}

export interface Panels {
  /** Field with a row of panels for each of its values; one row without. */
  readonly row?: Specification;
  /** Axes that differ from panel to panel. */
  readonly independent?: readonly ('x' | 'y')[];
  /** Of a panel, in pixels. */
  readonly height?: number;
}

/** One panel for each model, side by side. */
export function panels(layers: Specification, { row, independent = [], height = 240 }: Panels): Specification {
  return {
    facet: {
      column: { field: 'model', type: 'nominal', title: null, sort: ['tiny-outliers', 'tiny', 'stories15M'] },
      ...(row && { row: { type: 'nominal', title: null, ...row } }),
    },
    spec: { width: 320, height, ...layers },
    resolve: { scale: Object.fromEntries(independent.map((axis) => [axis, 'independent'])) },
  };
}
