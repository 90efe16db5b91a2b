// An experiment's rows as a document: what was run, the table, the claims, what failed.
import type { ExperimentRow } from '@lowbit/core';
import { formatNumber } from '../markdown.js';
import { DENSE } from '../outcome.js';
import { type CheckedClaim, checkClaims, claimLines } from './claims.js';
import { type PivotTable, pivotTable } from './pivot.js';
import { type ExperimentPlan, isComputed } from './plan.js';
import { isFailed, isText, resultsIn } from './rows.js';

export interface ExperimentReport {
  /** Table, texts, claims and failures as Markdown: what a person wants to see when a run ends. */
  readonly summary: string;
  /** The same below what the experiment is and how it was run. */
  readonly document: string;
  readonly claims: readonly CheckedClaim[];
}

/** `figure` is a path from the document to the figure. */
export function reportExperiment(plan: ExperimentPlan, rows: readonly ExperimentRow[], figure?: string): ExperimentReport {
  const { title, description, source, table } = plan.experiment;
  const results = resultsIn(rows);
  const claims = checkClaims(plan.experiment, rows);
  const below = [
    ...denseLine(rows),
    ...(results.length === 0 ? ['There are no results.'] : tableLines(pivotTable(results, table))),
    ...textLines(rows),
    ...(claims.length === 0 ? [] : ['', 'Claims:', '', ...claimLines(claims)]),
    ...failureLines(rows),
  ];
  const above = [
    `# ${plan.name}: ${title}`,
    '',
    description,
    '',
    `Source: ${source}.`,
    '',
    protocolLine(plan, rows),
    '',
    ...(figure === undefined ? [] : [`![${title}](${figure})`, '']),
  ];
  return { summary: tidy(below), document: tidy([...above, ...below]), claims };
}

/** Models and seeds are those of the rows: a run may have gone on with rows of others. */
function protocolLine(plan: ExperimentPlan, rows: readonly ExperimentRow[]): string {
  const seen = (field: string): string =>
    [...new Set(rows.map((row) => row[field]).filter((value) => value !== undefined && value !== null))].join(', ');
  if (isComputed(plan)) return `Computed; seeds: ${seen('seed')}.`;
  const windows = `calibrated on ${plan.calibration.windows} windows unless an arm says otherwise, judged on ${plan.heldOut.windows}`;
  return `Models: ${seen('model')}; seeds: ${seen('seed')}; ${windows}.`;
}

/** 'Dense: tiny perplexity 12.3.' */
function denseLine(rows: readonly ExperimentRow[]): string[] {
  const parts = rows.flatMap(({ arm, model, perplexity }) =>
    arm === DENSE && typeof perplexity === 'number' ? [`${model} perplexity ${formatNumber(perplexity)}`] : [],
  );
  return parts.length === 0 ? [] : [`Dense: ${parts.join(', ')}.`, ''];
}

function tableLines({ text, notes }: PivotTable): string[] {
  return [text, ...(notes.length === 0 ? [] : ['', notes.join(' ')])];
}

/** What the models wrote, the dense ones among them. */
function textLines(rows: readonly ExperimentRow[]): string[] {
  const texts = rows.filter(isText).map((row) => `- ${cellName(row)}: ${row.prompt && `**${oneLine(row.prompt)}**`}${oneLine(row.text)}`);
  return texts.length === 0 ? [] : ['', 'Texts:', '', ...texts];
}

/** As a part of a line in Markdown that shows what was written. */
function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').replace(/[\\`*_<>[\]#|]/g, '\\$&');
}

function failureLines(rows: readonly ExperimentRow[]): string[] {
  const failed = rows.filter(isFailed).map((row) => `- ${cellName(row)}: ${row.failure.split('\n')[0]}`);
  return failed.length === 0 ? [] : ['', 'Failed:', '', ...failed];
}

function cellName({ model, arm, seed }: ExperimentRow): string {
  return [model, arm, seed === null ? undefined : `seed ${seed}`].filter((part) => part !== undefined).join(', ');
}

/** No two empty lines in a row, none at the end. */
function tidy(lines: readonly string[]): string {
  return lines
    .filter((line, i) => line !== '' || (i > 0 && lines[i - 1] !== ''))
    .join('\n')
    .trimEnd();
}
