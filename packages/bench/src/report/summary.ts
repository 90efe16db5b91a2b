// Rows of a run by model and recipe: what its seeds have in common, and how far they are apart.
import { groupBy } from '../groups.js';
import { judgedAlike } from '../judged-alike.js';
import { type Spread, spreadOf } from '../noise.js';
import { type BenchRow, type FailedRow, isScore, type ScoreRow } from '../row.js';
import { type Width, widthOf } from '../width.js';

/** A score of a recipe over its seeds. */
export interface Summary {
  /** Mean over the seeds. */
  readonly value: number;
  readonly spread: Spread;
  readonly higherIsBetter: boolean;
  readonly rows: readonly ScoreRow[];
}

/** A recipe on a model. */
export interface Subject {
  /** Of its place in the page: 'r0', 'r1', … */
  readonly id: string;
  readonly model: string;
  readonly recipe: string;
  readonly method: string;
  /** Mean over the seeds; null where quantizing failed. */
  readonly bitsPerWeight: number | null;
  readonly isDense: boolean;
  /** Undefined for the dense model, and for recipes that quantize no weight. */
  readonly width: Width | undefined;
  readonly seeds: readonly number[];
  /** Of quantizing; mean over the seeds. */
  readonly seconds: number;
  /** Largest over the seeds. */
  readonly peakRssMiB: number;
  readonly scores: ReadonlyMap<string, Summary>;
  readonly failures: readonly FailedRow[];
  readonly rows: readonly BenchRow[];
}

/** In the order of the rows, the dense model first. */
export function summarize(rows: readonly BenchRow[]): Subject[] {
  return groupBy(rows, ({ model, recipe }) => [model, recipe]).map((group, i) => subjectOf(group, `r${i}`));
}

function subjectOf(rows: readonly BenchRow[], id: string): Subject {
  const { model, recipe, method, bits, steps } = rows[0];
  const scored = groupBy(rows.filter(isScore), ({ evaluator }) => evaluator);
  const weights = rows.flatMap(({ bitsPerWeight }) => bitsPerWeight ?? []);
  const bitsPerWeight = weights.length === 0 ? null : mean(weights);
  const isDense = steps.length === 0;
  const weightBits = isDense ? null : (bits ?? bitsPerWeight);
  // One figure a cell, repeated in each of its rows.
  const cells = groupBy(rows, ({ seed }) => seed).map(([first]) => first);
  return {
    ...{ id, model, recipe, method, bitsPerWeight, isDense, rows },
    width: weightBits === null ? undefined : widthOf(weightBits, rows.find((row) => row.activationBits !== undefined)?.activationBits),
    seeds: cells.map(({ seed }) => seed),
    seconds: mean(cells.map(({ seconds }) => seconds)),
    peakRssMiB: Math.max(...rows.map(({ peakRssMiB }) => peakRssMiB)),
    scores: new Map(scored.map((group) => [group[0].evaluator, summaryOf(group)])),
    failures: rows.filter((row): row is FailedRow => !isScore(row)),
  };
}

/** Whether all values of a score compare. `subjects` are all of one model. */
export function areAlike(subjects: readonly Subject[], name: string): boolean {
  return judgedAlike(subjects.flatMap(({ scores }) => scores.get(name)?.rows ?? [])).length < 2;
}

function summaryOf(rows: readonly ScoreRow[]): Summary {
  const spread = spreadOf(rows);
  return { value: spread.mean, spread, higherIsBetter: rows[0].higherIsBetter, rows };
}

/** The value of each part, mean over the seeds, by path. */
export function partsOf({ rows }: Summary): Map<string, number> {
  const paths = new Set(rows.flatMap(({ parts = {} }) => Object.keys(parts)));
  return new Map([...paths].map((path) => [path, mean(rows.flatMap(({ parts }) => parts?.[path] ?? []))]));
}

/** Negative when `a` is the better one. */
export function compareScores(a: Summary, b: Summary): number {
  return (a.value - b.value) * (a.higherIsBetter ? -1 : 1);
}

/** Recipes of one model that compare with each other, from few bits to many. */
export function byWidth(subjects: readonly Subject[]): { readonly width: Width; readonly subjects: Subject[] }[] {
  const sized = subjects.flatMap((subject) => (subject.width ? [{ subject, width: subject.width }] : []));
  const groups = groupBy(sized, ({ width }) => width.label);
  return groups
    .map((group) => ({ width: group[0].width, subjects: group.map(({ subject }) => subject) }))
    .sort((a, b) => a.width.order - b.width.order);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
