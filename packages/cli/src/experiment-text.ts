// Experiments as lines on a terminal: what there is, and what a cell gave.
import { isText } from '@lowbit/bench';
import type { Experiment, ExperimentRow } from '@lowbit/core';
import type { Plugin } from './methods.js';
import { formatDuration } from './progress.js';

/** One paragraph an experiment; with `isJson`, one JSON object. */
export function listExperiments(plugins: readonly Plugin[], isJson: boolean): string {
  const listed = plugins.flatMap(({ name, experiments }) =>
    experiments.map((experiment) => (isJson ? `${JSON.stringify(recordOf(name, experiment))}\n` : paragraphOf(name, experiment))),
  );
  if (isJson) return listed.join('');
  if (listed.length === 0) return `${plugins.map(({ name }) => name).join(', ')}: no experiments\n`;
  return `${listed.join('\n')}\nRun one: lowbit reproduce <plugin>/<name>\n`;
}

function paragraphOf(plugin: string, experiment: Experiment): string {
  const { name, title, source, claims = [] } = experiment;
  const size = 'arms' in experiment ? `${experiment.arms.length} arms` : 'computed';
  const checked = claims.length === 0 ? '' : `, checks ${claims.map((claim) => claim.name).join(', ')}`;
  return `${plugin}/${name}: ${title}\n  ${source}; ${size}${checked}\n`;
}

function recordOf(plugin: string, experiment: Experiment): object {
  const { name, title, description, source, claims = [] } = experiment;
  const claimed = claims.map((claim) => ({ name: claim.name, statement: claim.statement }));
  const arms = 'arms' in experiment ? experiment.arms.map((arm) => arm.name) : null;
  return { experiment: `${plugin}/${name}`, title, description, source, arms, claims: claimed };
}

/** 'tiny, gptq-2, seed 0: loss-gap 0.123; 12 cells left, 3 min 20 s'. */
export function describeCell({ table }: Experiment, rows: readonly ExperimentRow[], left: number, seconds: number): string {
  const [first] = rows;
  const cell = [first?.['model'], first?.['arm'], typeof first?.['seed'] === 'number' ? `seed ${first['seed']}` : undefined];
  const name = cell.filter((part) => part !== undefined).join(', ');
  const values = table.values.flatMap((field) => (typeof first?.[field] === 'number' ? [`${field} ${first[field].toPrecision(4)}`] : []));
  const outcome = rows.filter((row) => !isText(row)).length === 1 && values.length > 0 ? values.join(', ') : `${rows.length} rows`;
  return `${name}: ${outcome}${left === 0 ? '' : `; ${left} cells left, about ${formatDuration(seconds)}`}`;
}
