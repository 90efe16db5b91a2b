// The table of all recipes: it sorts and filters, and each line opens to how its numbers came about.
import { judgedAlike } from '../judged-alike.js';
import { gives } from '../score-names.js';
import { details } from './details.js';
import { type Html, html } from './html.js';
import type { Metric } from './metrics.js';
import { columnOf, type Figure } from './number-column.js';
import { denseLook, type Look, symbol } from './palette.js';
import { areAlike, byWidth, compareScores, type Subject, type Summary } from './summary.js';

export interface TableContext {
  readonly metrics: readonly Metric[];
  readonly looks: ReadonlyMap<string, Look>;
  /** A command that makes the recipe's numbers again; undefined where what is known does not suffice. */
  readonly commandFor: (subject: Subject) => string | undefined;
}

interface Column {
  readonly title: string;
  readonly hint?: string | undefined;
  /** What the column sorts by; undefined sorts last. */
  readonly key: (subject: Subject) => number | undefined;
  readonly cell: (subject: Subject) => Html | string;
}

/**
 * Lines in the order in which people read them: the dense model, then from few bits to many, the best of equal bits first. `subjects` are
 * all of one model.
 */
export function resultsTable(subjects: readonly Subject[], context: TableContext): Html {
  const { metrics, looks, commandFor } = context;
  const columns = [...sizes, ...metrics.map((metric) => scoreColumn(subjects, metric)), ...costs];
  const head = columns.map(
    ({ title, hint }, i) =>
      html`<th scope="col" class="number"><button type="button" data-column="${i + 1}" title="${hint}">${title}</button></th>`,
  );
  const bodies = inReadingOrder(subjects, metrics[0]).map((subject) => {
    const look = subject.isDense ? denseLook : (looks.get(subject.method) as Look);
    const { id, recipe, method } = subject;
    const keys = columns.map(({ key }) => key(subject) ?? '').join(' ');
    const cells = columns.map(({ cell }) => html`<td class="number">${cell(subject)}</td>`);
    return html`<tbody id="${id}" data-subject="${id}" data-method="${method}" data-width="${subject.width?.label}" data-keys="${keys}">
<tr><th scope="row"><button type="button" aria-expanded="true" aria-controls="${id}-more">${symbol(look)}<span>${recipe}</span></button></th>${cells}</tr>
<tr class="more" id="${id}-more"><td colspan="${columns.length + 1}">${details(subject, metrics, commandFor(subject))}</td></tr>
</tbody>
`;
  });
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Results"><table class="results">
<thead><tr><th scope="col"><button type="button" data-column="0">Recipe</button></th>${head}</tr></thead>
${bodies}</table></div>`;
}

const sizes: readonly Column[] = [
  {
    title: 'Bits',
    hint: 'of weights, and after the A of inputs',
    key: ({ width }) => width?.order,
    cell: ({ width }) => width?.label ?? '',
  },
  {
    title: 'Bits/weight',
    hint: 'bits per weight of the blocks’ Linears, with scales, offsets and adapters counted',
    key: ({ bitsPerWeight }) => bitsPerWeight ?? undefined,
    cell: ({ bitsPerWeight }) => bitsPerWeight?.toFixed(2) ?? '',
  },
];

const costs: readonly Column[] = [
  {
    title: 'Time',
    hint: 'wall time of quantizing, seconds',
    key: ({ seconds }) => seconds,
    cell: ({ seconds, isDense }) => (isDense ? '' : html`${seconds.toFixed(1)}<span class="unit"> s</span>`),
  },
  {
    title: 'Memory',
    hint: 'largest resident memory of the process since the cell began, MiB',
    key: ({ peakRssMiB }) => peakRssMiB,
    cell: ({ peakRssMiB }) => html`${peakRssMiB}<span class="unit"> MiB</span>`,
  },
];

function scoreColumn(subjects: readonly Subject[], { name, title, unit, about }: Metric): Column {
  const scores = subjects.flatMap((subject) => subject.scores.get(name) ?? []);
  const figureOf = ({ value, spread }: Summary): Figure => ({ value, error: spread.noise });
  const write = columnOf(scores.map(figureOf));
  const best = new Set(areAlike(subjects, name) ? byWidth(subjects).flatMap((group) => bestOf(group.subjects, name)) : []);
  return {
    title,
    hint: [about, unit].filter(Boolean).join('; ') || undefined,
    key: ({ scores }) => {
      const score = scores.get(name);
      return score && judgedAlike(score.rows).length === 1 ? score.value : undefined;
    },
    cell: (subject) => {
      const score = subject.scores.get(name);
      const failure = subject.failures.find(({ evaluator }) => gives(evaluator, name) || subject.scores.size === 0);
      if (!score) return failure ? html`<span class="failure" title="${failure.error.message}">${failure.error.code}</span>` : '';
      const protocols = judgedAlike(score.rows).length;
      return protocols > 1 ? `${protocols} protocols` : write(figureOf(score), best.has(subject));
    },
  };
}

/** None where there is nothing to be better than. */
function bestOf(group: readonly Subject[], name: string): Subject[] {
  const scored = group.flatMap((subject) => {
    const score = subject.scores.get(name);
    return score ? [{ subject, score }] : [];
  });
  const [first, ...others] = scored.sort((a, b) => compareScores(a.score, b.score));
  return others.length === 0 ? [] : [first.subject];
}

function inReadingOrder(subjects: readonly Subject[], metric: Metric | undefined): Subject[] {
  const byScore = (a: Subject, b: Subject): number => {
    const [first, second] = [a, b].map(({ scores }) => (metric ? scores.get(metric.name) : undefined));
    return first && second ? compareScores(first, second) : Number(!first) - Number(!second);
  };
  const order = ({ width }: Subject): number => width?.order ?? 0;
  return subjects.toSorted((a, b) => order(a) - order(b) || byScore(a, b));
}
