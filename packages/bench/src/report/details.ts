// What a line of the table opens to: how the numbers of a recipe came about, and what makes them again.
import { groupBy } from '../groups.js';
import { formatNumber } from '../markdown.js';
import type { FailedRow } from '../row.js';
import { type Html, html } from './html.js';
import type { Metric } from './metrics.js';
import type { Subject } from './summary.js';

/** `command` makes the numbers again; undefined where what is known does not suffice. */
export function details({ rows, failures, model, scores, seeds }: Subject, metrics: readonly Metric[], command: string | undefined): Html {
  const calibrations = rows.flatMap(({ calibration }) => (calibration ? [`${calibration.description} (${calibration.hash})`] : []));
  const tasks = rows.flatMap(({ task }) => (task ? [`${task.description} (${task.hash})`] : []));
  const facts: readonly (readonly [string, Html | undefined])[] = [
    ['Model', html`${model}`],
    ['Failed', failures.length === 0 ? undefined : failureList(failures)],
    ['Reproduce', command === undefined ? undefined : commandLine(command)],
    ['Steps', stepList(rows[0].steps)],
    ['Calibration', distinct(calibrations)],
    ['Task', distinct(tasks)],
    ['Scores', seedTable(scores, metrics)],
    ['Seeds', html`${seeds.join(', ')}`],
    ['Commit', distinct(rows.map(({ commit }) => commit ?? 'outside a checkout'))],
  ];
  return html`<dl>${facts.map(([name, what]) => what && html`<dt>${name}</dt><dd>${what}</dd>`)}</dl>`;
}

/** With a button that script.js brings to life. */
export function commandLine(command: string): Html {
  return html`<div class="command"><pre>${command}</pre><button type="button" class="copy">Copy</button></div>`;
}

/** Each message once: where quantizing fails, all evaluators fail alike. */
function failureList(failures: readonly FailedRow[]): Html {
  const groups = groupBy(failures, ({ error }) => error.message);
  return html`${groups.map((group) => {
    const names = [...new Set(group.map(({ evaluator, seed }) => `${evaluator} (seed ${seed})`))];
    return html`<p>${names.join(', ')}: ${group[0].error.message}</p>`;
  })}`;
}

function stepList(steps: Subject['rows'][number]['steps']): Html | undefined {
  return steps.length === 0 ? undefined : html`<pre>${steps.map((step) => JSON.stringify(step)).join('\n')}</pre>`;
}

/** A line for each of the different ones. */
function distinct(values: readonly string[]): Html | undefined {
  return values.length === 0 ? undefined : html`${[...new Set(values)].map((value) => html`<p>${value}</p>`)}`;
}

/** Every score of every seed as it was measured. */
function seedTable(scores: Subject['scores'], metrics: readonly Metric[]): Html | undefined {
  const lines = metrics.flatMap(({ name, title }) => {
    const score = scores.get(name);
    if (!score) return [];
    const values = score.rows.map(({ seed, value, stderr }) => {
      const error = stderr > 0 ? ` ± ${formatNumber(Number(stderr.toPrecision(2)))}` : '';
      return `${score.rows.length > 1 ? `seed ${seed}: ` : ''}${value.toPrecision(6)}${error}`;
    });
    return [html`<tr><th scope="row">${title}</th><td>${values.join(' · ')}</td></tr>`];
  });
  return lines.length === 0 ? undefined : html`<table class="seeds"><tbody>${lines}</tbody></table>`;
}
