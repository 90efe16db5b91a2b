// Rows of an experiment: which cell each belongs to, and which of them tables, figures and claims are made from.
import type { ExperimentRow, ExperimentValue } from '@lowbit/core';
import { DENSE } from '../outcome.js';

/** What is run at once: an arm on a model with a seed, or a computation with a seed. */
export interface ExperimentCell {
  readonly model?: string;
  readonly arm?: string;
  /** Null for the dense model. */
  readonly seed: number | null;
}

/** A name of a cell that rows of equal cells have in common. */
export function cellKey({ model = null, arm = null, seed = null }: ExperimentRow | ExperimentCell): string {
  return JSON.stringify([model, arm, seed]);
}

/** A row with the cell's fields first, and with null for numbers that JSON cannot hold. */
export function rowOf(cell: ExperimentCell, fields: ExperimentRow): ExperimentRow {
  const row = { ...cell, ...fields, ...cell };
  return Object.fromEntries(Object.entries(row).map(([name, value]) => [name, isJson(value) ? value : null]));
}

function isJson(value: ExperimentValue): boolean {
  return typeof value !== 'number' || Number.isFinite(value);
}

/** A cell that failed, and why: the run went on without it. ('error' is what experiments call what they measure.) */
export function isFailed(row: ExperimentRow): row is ExperimentRow & { readonly failure: string } {
  return typeof row['failure'] === 'string';
}

/** What a model wrote. */
export function isText(row: ExperimentRow): row is ExperimentRow & { readonly prompt: string; readonly text: string } {
  return typeof row['prompt'] === 'string' && typeof row['text'] === 'string';
}

/** Rows of arms, or of a computation, that did not fail and are no texts. */
export function resultsIn(rows: readonly ExperimentRow[]): ExperimentRow[] {
  return rows.filter((row) => !isFailed(row) && !isText(row) && row['arm'] !== DENSE);
}
