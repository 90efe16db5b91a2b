// How the numbers of a report came about: text, data, engine, and what each score is.
import { isDeepStrictEqual } from 'node:util';
import { judgedOtherwise } from '../judged-alike.js';
import { type BenchRow, isScore } from '../row.js';
import { type Html, html } from './html.js';
import type { Metric } from './metrics.js';

type Fields = Readonly<Record<string, unknown>>;

/** What all scores of a model have in common, then each score's own. `rows` are all of one model. */
export function protocolOf(rows: readonly BenchRow[], metrics: readonly Metric[]): Html {
  const scores = rows.filter(isScore);
  const kinds = metrics.flatMap((metric) => {
    const own = scores.filter(({ evaluator }) => evaluator === metric.name);
    return own.length === 0 ? [] : [{ metric, own, protocol: own[0].protocol }];
  });
  const shared = sharedFields(kinds.map(({ protocol }) => protocol));
  const lines = kinds.map(({ metric, own, protocol }) => {
    const rest = Object.fromEntries(Object.entries(protocol).filter(([name]) => !(name in shared)));
    const [{ higherIsBetter, samples, evaluatorVersion }] = own;
    return html`<tr><th scope="row">${metric.title}</th><td>${metric.about || metric.name}${metric.unit && `, ${metric.unit}`}. ${higherIsBetter ? 'Higher' : 'Lower'} is better.</td><td class="number">${samples}</td><td class="number">${evaluatorVersion}</td><td class="fields">${Object.entries(rest).map(([name, value]) => html`${name}: ${written(value)}; `)}</td></tr>
`;
  });
  // The engine as rows have it says its number of threads as well.
  const { backend: _, ...text } = shared;
  return html`<dl>${Object.entries({ ...about(rows), ...text }).map(([name, value]) => html`<dt>${spaced(name)}</dt><dd>${written(value)}</dd>`)}</dl>
<div class="scroll" tabindex="0" role="region" aria-label="Scores"><table class="scores"><thead><tr><th scope="col">Score</th><th scope="col">What it is</th><th scope="col" class="number">Samples</th><th scope="col" class="number">Version</th><th scope="col">Besides</th></tr></thead><tbody>
${lines}</tbody></table></div>`;
}

/** Fields of equal values everywhere. */
function sharedFields(protocols: readonly Fields[]): Fields {
  const [first = {}, ...others] = protocols;
  return Object.fromEntries(
    Object.entries(first).filter(([name, value]) => others.every((other) => isDeepStrictEqual(other[name], value))),
  );
}

/** What rows say besides their protocol; several values of one thing are all given. */
function about(rows: readonly BenchRow[]): Fields {
  const distinct = (values: readonly string[]): string => [...new Set(values)].join(' · ');
  const versions = rows.flatMap(({ versions }) => Object.entries(versions).map(([name, version]) => `${name} ${version}`));
  const tuned = rows.flatMap(({ task }) => (task ? [`${task.description} (${task.hash})`] : []));
  return {
    calibration:
      distinct(rows.flatMap(({ calibration }) => (calibration ? [`${calibration.description} (${calibration.hash})`] : []))) || 'none',
    ...(tuned.length > 0 && { task: distinct(tuned) }),
    seeds: distinct(rows.map(({ seed }) => String(seed))),
    versions: distinct(versions),
    commit: distinct(rows.map(({ commit }) => commit ?? 'outside a checkout')),
    backend: distinct(rows.map(({ backend }) => backend)),
  };
}

/** Why some numbers of a model do not compare. `rows` are all of one model. */
export function warnings(rows: readonly BenchRow[], metrics: readonly Metric[]): Html[] {
  const scores = rows.filter(isScore);
  const differing = judgedOtherwise(scores).flatMap(({ evaluator, fields }) => {
    const metric = metrics.find(({ name }) => name === evaluator);
    return metric
      ? [`${metric.title}: not all rows were judged by one protocol (${fields.join(', ')}); only values of one protocol compare.`]
      : [];
  });
  const commits = new Set(scores.map(({ commit }) => commit));
  const texts = [...differing, ...(commits.size > 1 ? ['The rows come from different commits.'] : [])];
  return texts.map((text) => html`<p class="warning">${text}</p>`);
}

/** 'tokensSha256' as 'tokens sha256'. */
function spaced(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

function written(value: unknown): string {
  if (value === null) return 'none';
  return typeof value === 'string' ? value : JSON.stringify(value);
}
