// Error by Linear: a line for each recipe, a cell for each Linear, by kind and then by block.
import { groupBy } from '../groups.js';
import { formatNumber } from '../markdown.js';
import { type Html, html } from './html.js';
import { decimalsFor } from './number-column.js';
import { type Look, symbol } from './palette.js';
import { compareScores, partsOf, type Subject } from './summary.js';

/** Steps of the colour scale, which is logarithmic; colours.css has a colour for each. */
const STEPS = 9;

/** Linears of one name in all blocks. */
interface Kind {
  readonly name: string;
  readonly paths: readonly string[];
}

/** Undefined where no recipe has an error by part. `subjects` are all of one model. */
export function heatMap(subjects: readonly Subject[], looks: ReadonlyMap<string, Look>): Html | undefined {
  const lines = subjects.flatMap((subject) => {
    const score = subject.scores.get('layer-error');
    const parts = score && partsOf(score);
    return !parts || parts.size === 0 || subject.isDense ? [] : [{ subject, score, parts }];
  });
  const values = lines.flatMap(({ parts }) => [...parts.values()]).filter((value) => value > 0);
  if (values.length === 0) return undefined;
  const kinds = kindsOf(new Set(lines.flatMap(({ parts }) => [...parts.keys()])));
  const paths = kinds.flatMap((kind) => kind.paths);
  const [least, most] = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
  const stepOf = stepper(least, most);
  const starts = new Set(kinds.map((kind) => kind.paths[0]));
  const order = ({ subject: { width } }: (typeof lines)[number]): number => width?.order ?? 0;
  const sorted = lines.toSorted((a, b) => order(a) - order(b) || compareScores(a.score, b.score));
  const means = lines.map(({ score }) => score.value).filter((value) => value > 0);
  const decimals = decimalsFor(means.reduce((a, b) => Math.min(a, b), 1));
  const body = sorted.map(({ subject, score, parts }) => {
    const figures = paths.map((path) => parts.get(path));
    const cells = paths.map((path, i) => html`<td class="${classOf(figures[i], stepOf)}${starts.has(path) ? ' start' : ''}"></td>`);
    const [worst, error] = [...parts].reduce((a, b) => (b[1] > a[1] ? b : a));
    return html`<tr data-subject="${subject.id}" data-errors="${figures.map((one) => (one === undefined ? '' : formatNumber(one))).join(' ')}">
<th scope="row"><a href="#${subject.id}">${symbol(looks.get(subject.method) as Look)}${subject.recipe}</a></th>${cells}<td class="number">${score.value.toFixed(decimals)}</td><td class="worst">${shortPath(worst)} <span class="error">${formatNumber(error)}</span></td></tr>
`;
  });
  const heads = kinds.map(({ name, paths }) => html`<th scope="colgroup" colspan="${paths.length}" class="start">${name}</th>`);
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Error by Linear">
<table class="heat" data-paths="${paths.map(shortPath).join(' ')}">
<thead><tr><th scope="col">Recipe</th>${heads}<th scope="col" class="number">mean</th><th scope="col">largest</th></tr></thead>
<tbody>
${body}</tbody></table></div>
${legend(least, most)}`;
}

/** By the name within a block, in the order in which the names come. */
function kindsOf(paths: ReadonlySet<string>): Kind[] {
  const groups = groupBy([...paths], (path) => path.split('.').at(-1));
  return groups.map((group) => ({ name: kindName(group[0]), paths: group }));
}

/** 'q_proj' takes more room than six cells have, and the rest is the same everywhere. */
function kindName(path: string): string {
  return (path.split('.').at(-1) ?? path).replace(/_proj$/, '');
}

/** 'model.layers.3.mlp.down_proj' as '3.down': the block and the kind. */
function shortPath(path: string): string {
  const block = path.split('.').find((part) => /^\d+$/.test(part));
  return block === undefined ? path.replaceAll(' ', '_') : `${block}.${kindName(path).replaceAll(' ', '_')}`;
}

/** From an error to its step, 0 for the least. */
function stepper(least: number, most: number): (value: number) => number {
  const range = Math.log(most / least) || 1;
  return (value) => (value > least ? Math.min(STEPS - 1, Math.floor((Math.log(value / least) / range) * STEPS)) : 0);
}

function classOf(value: number | undefined, stepOf: (value: number) => number): string {
  return value === undefined ? 'none' : `h${stepOf(value)}`;
}

function legend(least: number, most: number): Html {
  const steps = Array.from({ length: STEPS }, (_, i) => html`<i class="h${i}"></i>`);
  return html`<p class="scale" aria-hidden="true">${formatNumber(least)} <span>${steps}</span> ${formatNumber(most)}</p>`;
}
