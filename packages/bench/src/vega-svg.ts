// Vega-Lite specifications drawn as SVG, without a browser.
import { LowbitError } from '@lowbit/core';
import type { TopLevelSpec } from 'vega-lite';

/**
 * Draws a specification with its data. Equal ones give equal bytes.
 * @throws FIGURE_SPEC when it cannot be read or drawn; `title` says which.
 */
export async function svgOf(specification: object, title: string): Promise<string> {
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
