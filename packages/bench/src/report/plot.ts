// The plot of size against a score as an SVG of its own: for papers, pages and READMEs.
import { LowbitError } from '@lowbit/core';
import type { RunFiles } from '../folder.js';
import { didYouMean } from '../suggestion.js';
import { asset } from './asset.js';
import { checkedRows } from './checked-rows.js';
import { Html, html } from './html.js';
import { metricsOf } from './metrics.js';
import { looksOf } from './palette.js';
import { paretoPlot } from './pareto.js';
import { areAlike, summarize } from './summary.js';

export interface PlotOptions {
  /** Default: the run's only model. */
  readonly model?: string | undefined;
  /** As rows call it: 'loss-gap', 'perplexity', … Default: the first that the report has a plot of. */
  readonly score?: string | undefined;
}

/** Pixels, without axes and heading. */
const SIZE = { width: 820, height: 440 } as const;
const MARGIN = 16;
const HEADING = 52;

/**
 * One plot of the report, on white: a point for each recipe at its bits per weight, the frontier, bars of ± one standard error.
 * @throws REPORT_ROWS as the report; REPORT_PLOT for a model or score that the run does not have, or several models and none chosen.
 */
export async function renderPlot(run: RunFiles, { model, score }: PlotOptions = {}): Promise<string> {
  const subjects = summarize(checkedRows(run));
  const models = [...new Set(subjects.map((subject) => subject.model))];
  if (model === undefined && models.length > 1) throw new LowbitError('REPORT_PLOT', `plot: choose a model of ${models.join(', ')}`);
  const own = subjects.filter((subject) => subject.model === (model ?? models[0]));
  if (own.length === 0) throw new LowbitError('REPORT_PLOT', `plot: no model '${model}' in this run; ${didYouMean(String(model), models)}`);
  const metrics = metricsOf(own.flatMap(({ isDense, scores }) => (isDense ? [] : [...scores.keys()])));
  const metric = score === undefined ? metrics[0] : metrics.find(({ name }) => name === score);
  // Looks as in the report, where a method keeps its colour on all models.
  const looks = looksOf([...new Set(subjects.filter(({ isDense }) => !isDense).map(({ method }) => method))]);
  const plot = metric && (await paretoPlot(own, metric, looks, [SIZE]));
  if (!plot) {
    const names = metrics.map(({ name }) => name);
    throw new LowbitError(
      'REPORT_PLOT',
      `plot: no recipe of ${own[0].model} has the score '${score}'; ${didYouMean(String(score), names)}`,
    );
  }
  if (!areAlike(own, metric.name)) {
    const remedy = 'their values do not compare; plot a run whose rows were judged alike';
    throw new LowbitError(
      'REPORT_PLOT',
      `plot: not all rows of ${metric.name} on ${own[0].model} were judged by one protocol, so that ${remedy}`,
    );
  }
  const { title, unit, about } = plot.metric;
  const scale = [unit, plot.axis === 'log' ? 'logarithmic' : ''].filter(Boolean).join(', ');
  const missing = plot.undrawn.length === 0 ? '' : `; not above zero, so not drawn: ${plot.undrawn.join(', ')}`;
  return standalone(plot.charts[0], `${title}${scale && ` (${scale})`}, ${own[0].model}`, `${about}${missing}`);
}

/** Readers of pictures have neither the report's styles nor its links. */
function standalone({ text }: Html, title: string, about: string): string {
  const [, chartWidth, chartHeight] = (/ width="([\d.]+)" height="([\d.]+)"/.exec(text) ?? []).map(Number);
  const [width, height] = [Math.ceil(chartWidth + 2 * MARGIN), Math.ceil(chartHeight + HEADING + 2 * MARGIN)];
  const drawn = new Html(
    text.replace(/<\/?a\b[^<>]*>/g, '').replace('<svg ', `<svg overflow="visible" x="${MARGIN}" y="${MARGIN + HEADING}" `),
  );
  const page = html`<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" font-family="system-ui, sans-serif" font-size="12">
<title>${title}</title>
<style>.role-mark text { paint-order: stroke; stroke: var(--page); stroke-width: 4px; stroke-linejoin: round }</style>
<rect width="100%" height="100%" fill="var(--page)"/>
<text x="${MARGIN}" y="${MARGIN + 14}" font-size="15" font-weight="600" fill="var(--ink)">${title}</text>
<text x="${MARGIN}" y="${MARGIN + 34}" fill="var(--muted)">${about}</text>
${drawn}
</svg>
`;
  return page.text.replace(/var\((--\w+)\)/g, (_, name: string) => onWhite().get(name) as string);
}

let light: ReadonlyMap<string, string> | undefined;

/** What the variables of colours.css are in the light theme. */
function onWhite(): ReadonlyMap<string, string> {
  const pairs = (): Iterable<RegExpExecArray> => asset('colours.css').matchAll(/(--\w+): light-dark\((#\w+)/g);
  return (light ??= new Map([...pairs()].map(([, name, colour]) => [name, colour])));
}
