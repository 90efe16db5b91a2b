// The report of a run as one HTML page that loads nothing.
import { createHash } from 'node:crypto';
import type { LogLine, RunFiles } from '../folder.js';
import { type BenchRow, hasFailed } from '../row.js';
import { asset } from './asset.js';
import { checkedLogs, checkedRows } from './checked-rows.js';
import { curveCharts } from './curves.js';
import { commandLine } from './details.js';
import { heatMap } from './heat-map.js';
import { type Content, Html, html } from './html.js';
import { type Metric, metricsOf } from './metrics.js';
import { type Look, looksOf, symbol } from './palette.js';
import { type ParetoPlot, paretoPlot } from './pareto.js';
import { protocolOf, warnings } from './protocol.js';
import { resultsTable, type TableContext } from './results-table.js';
import { areAlike, byWidth, type Subject, summarize } from './summary.js';
import { winnersTable } from './winners.js';

export interface ReportOptions {
  /** What the page is called. */
  readonly title: string;
  /** A command that runs one recipe on one model again, with the run's seeds and protocol; undefined where that is not known. */
  readonly commandFor?: ((model: string, recipe: string) => string | undefined) | undefined;
  /** The command that ran it all. */
  readonly command?: string | undefined;
}

/** For screens of either width: page.css shows one of them. */
const plotSizes = [
  { width: 1000, height: 420 },
  { width: 290, height: 320 },
] as const;

/** Scores that have a plot of their own; all are in the table. */
const MOST_PLOTS = 6;

/**
 * A self-contained page: plots, tables, error by Linear, losses of fine-tuning, the protocol and how to repeat each number.
 * @throws REPORT_ROWS when the rows are not what a benchmark writes.
 */
export async function renderReport(run: RunFiles, { title, commandFor, command }: ReportOptions): Promise<string> {
  const rows = checkedRows(run);
  const logs = checkedLogs(run);
  const subjects = summarize(rows);
  const metrics = metricsOf(rows.map(({ evaluator }) => evaluator));
  const models = [...new Set(subjects.map(({ model }) => model))];
  const methods = [...new Set(subjects.filter(({ isDense }) => !isDense).map(({ method }) => method))];
  const looks = looksOf(methods);
  const context = { looks, metrics, commandFor: ({ model, recipe }: Subject) => commandFor?.(model, recipe) };
  const parts: Html[] = [];
  for (const model of models) {
    const own = { subjects: subjects.filter((subject) => subject.model === model), rows: rows.filter((row) => row.model === model), logs };
    const heading = models.length > 1 ? html`<h2 class="name">${model}</h2>` : undefined;
    parts.push(html`<div class="model" data-model="${model}">${heading}${await partOf(own, context)}</div>
`);
  }
  const body = html`<header><h1>${title}</h1>${themes}<p class="lead">${factsOf(subjects)}</p></header>
<main>
${filters(subjects, models, looks)}
${parts}
${command === undefined ? undefined : section('Reproduce', 'The whole run; a line of the table opens to the command for its recipe alone.', commandLine(command))}
</main>
<div id="tip" role="tooltip" hidden></div>`;
  return documentOf(title, body);
}

const winnersNote = ({ title, unit }: Metric): string =>
  `By ${title.toLowerCase()}${unit && ` (${unit})`}. A lead counts where it is more than twice its own standard error: by windows of the text where both were judged on the same ones, and by seeds.`;
const plotNote = 'The line is the frontier: nothing of equal or fewer bits is better than the filled points on it. Bars are ±.';
const heatNote =
  'Squared error of each Linear’s output relative to the output, on what the dense model’s layer reads: a cell for each block, first to last. One logarithmic scale.';
const protocolNote = 'How every number of this model was measured.';
const curveNote = 'Thick: on data that was held out. Thin: on what was trained on. A line for each seed.';

function tableNote(subjects: readonly Subject[]): string {
  const hasSeeds = subjects.some(({ seeds }) => seeds.length > 1);
  const error = hasSeeds
    ? 'Means over seeds; ± is their standard error over text or examples and over seeds'
    : '± is the standard error over text or examples; what another seed would change is not in it';
  return `${error}. Bold: best of its bit width. A line opens to how its numbers came about and the command that repeats them.`;
}

/** Nothing where there is no content. */
function section(heading: string, note: Content, content: Content): Html | undefined {
  return content === undefined ? undefined : html`<section><h2>${heading}</h2><p class="note">${note}</p>${content}</section>`;
}

interface ModelRun {
  readonly subjects: readonly Subject[];
  readonly rows: readonly BenchRow[];
  readonly logs: readonly LogLine[];
}

/** All that is said about one model. */
async function partOf({ subjects, rows, logs }: ModelRun, context: TableContext): Promise<Html> {
  const { metrics, looks } = context;
  const own = metrics.filter(({ name }) => subjects.some(({ scores }) => scores.has(name)));
  // Points that do not compare have no frontier, and none of them is best.
  const comparable = own.filter(({ name }) => areAlike(subjects, name));
  const plots = await plotsOf(subjects, comparable, looks);
  const winners = plots && winnersTable(subjects, plots.first, looks);
  const table = resultsTable(subjects, { ...context, metrics: own });
  return html`${warnings(rows, own)}
${section('Best of each bit width', plots && winnersNote(plots.first), winners)}
${section('Loss against size', plotNote, plots?.drawn)}
${section('Results', tableNote(subjects), html`<p class="count" role="status"></p>${table}`)}
${section('Error by Linear', heatNote, heatMap(subjects, looks))}
${section('Losses during fine-tuning', curveNote, await curvesOf(subjects, logs))}
${section('Protocol', protocolNote, protocolOf(rows, own))}`;
}

/** A switch between scores, and a plot for each of them. */
async function plotsOf(
  subjects: readonly Subject[],
  metrics: readonly Metric[],
  looks: ReadonlyMap<string, Look>,
): Promise<Plots | undefined> {
  const plots: ParetoPlot[] = [];
  for (const metric of metrics.slice(0, MOST_PLOTS)) {
    const plot = await paretoPlot(subjects, metric, looks, plotSizes);
    if (plot) plots.push(plot);
  }
  if (plots.length === 0) return undefined;
  const group = `plot-${subjects[0].id}`;
  const choices = plots.map(({ metric: { name, title } }, i) => choice(group, name, title, i === 0));
  const figures = plots.map(plotFigure);
  return { first: plots[0].metric, drawn: html`<fieldset class="switch"><legend>Score</legend>${choices}</fieldset>${figures}` };
}

interface Plots {
  /** What decides which recipe is best: the most important score. */
  readonly first: Metric;
  readonly drawn: Html;
}

function plotFigure({ metric: { name, title, unit, about }, axis, undrawn, charts }: ParetoPlot): Html {
  const scale = [unit, axis === 'log' ? 'logarithmic' : ''].filter(Boolean).join(', ');
  const missing = undrawn.length === 0 ? undefined : `Not above zero, so without a place on this axis: ${undrawn.join(', ')}.`;
  const [wide, narrow] = charts;
  return html`<figure data-metric="${name}">
<figcaption><b>${title}</b>${scale && html` <span class="scale-of">(${scale})</span>`}<span class="about">${about}</span></figcaption>
<div class="wide">${wide}</div><div class="narrow">${narrow}</div>${missing && html`<p class="note">${missing}</p>`}</figure>
`;
}

async function curvesOf(subjects: readonly Subject[], logs: readonly LogLine[]): Promise<Html | undefined> {
  const charts = await curveCharts(subjects, logs);
  return charts.length === 0 ? undefined : html`<div class="curves">${charts}</div>`;
}

/** One line that says what was compared. */
function factsOf(subjects: readonly Subject[]): string {
  const models = [...new Set(subjects.map(({ model }) => model))];
  const recipes = new Set(subjects.filter(({ isDense }) => !isDense).map(({ recipe }) => recipe)).size;
  const seeds = new Set(subjects.flatMap((subject) => subject.seeds)).size;
  const failed = subjects.filter(({ failures }) => failures.some(hasFailed)).length;
  const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;
  return [
    `${count(recipes, 'recipe')} on ${models.join(', ')}`,
    count(seeds, 'seed'),
    ...(failed > 0 ? [`${failed} with errors`] : []),
  ].join(' · ');
}

const themes = html`<fieldset class="switch theme"><legend>Theme</legend>${['Auto', 'Light', 'Dark'].map((name, i) => choice('theme', name.toLowerCase(), name, i === 0))}</fieldset>`;

/** One of several. */
function choice(group: string, value: string, label: string, isChosen: boolean): Html {
  return html`<label><input type="radio" name="${group}" value="${value}"${isChosen ? new Html(' checked') : undefined}>${label}</label>`;
}

/** They hold for all of the page; nothing chosen in a group means all of it. */
function filters(subjects: readonly Subject[], models: readonly string[], looks: ReadonlyMap<string, Look>): Html {
  const box = (group: string, value: string, label: Content): Html =>
    html`<label class="chip"><input type="checkbox" name="${group}" value="${value}">${label}</label>`;
  const modelChoices = models.map((model, i) => choice('model', model, model, i === 0));
  const methods = [...looks].map(([method, look]) => box('method', method, html`${symbol(look)}${method}`));
  const widths = byWidth(subjects).map(({ width: { label } }) => box('width', label, label));
  return html`<form class="filters" aria-label="Filters">
${models.length > 1 ? html`<fieldset class="switch"><legend>Model</legend>${modelChoices}</fieldset>` : undefined}
<fieldset><legend>Method</legend>${methods}</fieldset>
<fieldset><legend>Bits</legend>${widths}</fieldset>
<label class="search">Recipe<input type="search" name="recipe" autocomplete="off" spellcheck="false"></label>
<button type="reset">Show all</button>
</form>`;
}

/** In the order in which they build on each other. */
const styles = ['colours.css', 'page.css', 'tables.css', 'charts.css'];

function documentOf(title: string, body: Html): string {
  const [style, script] = [styles.map(asset).join(''), asset('script.js')];
  // Nothing may be loaded, and no script but ours may run, whatever the rows say.
  const digest = createHash('sha256').update(script).digest('base64');
  const policy = `default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-${digest}'; base-uri 'none'; form-action 'none'`;
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>${title}</title>
<style>${new Html(style)}</style>
</head>
<body>
${body}
<script>${new Html(script)}</script>
</body>
</html>
`.text;
}
