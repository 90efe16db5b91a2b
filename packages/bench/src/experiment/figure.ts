// An experiment's figure: its Vega-Lite specification with rows and our theme, drawn as SVG without a browser.
import { type ExperimentRow, LowbitError } from '@lowbit/core';
import type { TopLevelSpec } from 'vega-lite';
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

async function svgOf(specification: object, title: string): Promise<string> {
  // A quarter of a second to load: not for those who draw nothing.
  const [vega, { compile }] = await Promise.all([import('vega'), import('vega-lite')]);
  const problems: unknown[] = [];
  const logger = quietLogger((problem) => problems.push(problem));
  try {
    // Bootstrapped intervals draw random numbers, and ids of clips are counted: both from the start for each figure.
    const { setRandom, randomLCG } = vega as unknown as Seeding;
    setRandom(randomLCG(0.5));
    vega.resetSVGDefIds();
    const { spec } = compile(specification as TopLevelSpec, { logger });
    const view = new vega.View(vega.parse(spec), { renderer: 'none', logger });
    const svg = await view.toSVG();
    view.finalize();
    if (problems.length === 0) return svg;
  } catch (error) {
    problems.push(error);
  }
  const [problem] = problems;
  const reason = problem instanceof Error ? problem.message : String(problem);
  throw new LowbitError('FIGURE_SPEC', `figure of '${title}': ${reason}; correct the experiment's Vega-Lite specification`, {
    cause: problem,
  });
}

/** What Vega exports and leaves out of its types. */
interface Seeding {
  setRandom(generator: () => number): void;
  /** A generator of numbers in [0, 1) from a seed in it. */
  randomLCG(seed: number): () => number;
}

interface Logger {
  level(): number;
  level(value: number): Logger;
  error(...values: readonly unknown[]): Logger;
  warn(...values: readonly unknown[]): Logger;
  info(...values: readonly unknown[]): Logger;
  debug(...values: readonly unknown[]): Logger;
}

/** Hands on errors; what Vega warns of (a zero that a logarithmic axis cannot have) shows in the figure. */
function quietLogger(onError: (problem: unknown) => void): Logger {
  const logger: Logger = {
    level: ((value?: number) => (value === undefined ? 0 : logger)) as Logger['level'],
    error: (...values) => {
      onError(values[0]);
      return logger;
    },
    warn: () => logger,
    info: () => logger,
    debug: () => logger,
  };
  return logger;
}
