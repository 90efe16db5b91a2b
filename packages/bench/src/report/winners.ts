// What a reader looks for first: of each bit width, the recipe that loses least, and by how much it leads.
import { formatNumber } from '../markdown.js';
import { compare } from '../noise.js';
import { type Html, html } from './html.js';
import type { Metric } from './metrics.js';
import { columnOf } from './number-column.js';
import { type Look, symbol } from './palette.js';
import { byWidth, compareScores, type Subject, type Summary } from './summary.js';

interface Entry {
  readonly subject: Subject;
  readonly score: Summary;
}

/** Undefined where no width has two recipes. `subjects` are all of one model. */
export function winnersTable(subjects: readonly Subject[], metric: Metric, looks: ReadonlyMap<string, Look>): Html | undefined {
  const groups = byWidth(subjects)
    .map(({ width, subjects }) => ({ width, entries: ranked(subjects, metric) }))
    .filter(({ entries }) => entries.length > 1);
  if (groups.length === 0) return undefined;
  const write = columnOf(groups.map(({ entries: [{ score }] }) => ({ value: score.value })));
  const lines = groups.map(({ width, entries: [first, second] }) => {
    const { subject, score } = first;
    return html`<tr data-subject="${subject.id}"><td class="number">${width.label}</td><th scope="row"><a href="#${subject.id}">${symbol(looks.get(subject.method) as Look)}${subject.recipe}</a></th><td class="number">${write({ value: score.value })}</td><td>${lead(first, second)} <a href="#${second.subject.id}">${second.subject.recipe}</a></td><td class="number">${subject.bitsPerWeight?.toFixed(2)}</td></tr>
`;
  });
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Best recipes"><table class="winners"><thead><tr><th scope="col" class="number">Bits</th><th scope="col">Best recipe</th><th scope="col" class="number">${metric.title}</th><th scope="col">Lead</th><th scope="col" class="number">Bits/weight</th></tr></thead><tbody>
${lines}</tbody></table></div>`;
}

/** Recipes that have the score, the best first. */
function ranked(group: readonly Subject[], { name }: Metric): Entry[] {
  const entries = group.flatMap((subject): Entry[] => {
    const score = subject.scores.get(name);
    return score ? [{ subject, score }] : [];
  });
  return entries.sort((a, b) => compareScores(a.score, b.score));
}

/** '0.31 ahead of', or 'level with' where the noise explains the difference. */
function lead({ score: { spread: first } }: Entry, { score: { spread: second } }: Entry): string {
  const { difference, isClear } = compare(first, second);
  return isClear ? `${formatNumber(Number(Math.abs(difference).toPrecision(2)))} ahead of` : 'level with';
}
