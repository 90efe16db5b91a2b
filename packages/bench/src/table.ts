// Rows as a Markdown table: one line per model and recipe; one column per score, over the seeds.
import { groupBy } from './groups.js';
import { judgedAlike } from './judged-alike.js';
import { formatNumber, layOutTable } from './markdown.js';
import { spreadOf } from './noise.js';
import { type BenchRow, type FailedRow, isScore } from './row.js';
import { gives } from './score-names.js';

const KEY_COLUMNS = ['model', 'recipe', 'bits', 'group', 'bits/weight'] as const;

/** 'value ± noise'; exact quantities have no ±, nor those whose error is not known. */
export function formatScore(value: number, noise: number): string {
  return noise === 0 || Number.isNaN(noise) ? formatNumber(value) : `${formatNumber(value)} ± ${Number(noise.toPrecision(2))}`;
}

/** The score of the seeds that have one; of others what went wrong. Of values that do not compare there is no mean. */
function formatCell(rows: readonly BenchRow[]): string {
  const [scores, failed] = [rows.filter(isScore), rows.filter((row): row is FailedRow => !isScore(row))];
  if (scores.length === 0) return [...new Set(failed.map(({ error }) => error.code))].join(', ');
  const protocols = judgedAlike(scores).length;
  const { mean, noise } = spreadOf(scores);
  return `${protocols > 1 ? `${protocols} protocols` : formatScore(mean, noise)}${failed.length === 0 ? '' : `, ${failed.length} failed`}`;
}

/** A Markdown table in the order of the rows: means over seeds ± their standard errors. How many seeds there are is a column where some have several. */
export function markdownTable(rows: readonly BenchRow[]): string {
  const columns = columnsOf(rows);
  const lines = groupBy(rows, ({ model, recipe }) => [model, recipe]);
  const cellsOf = (line: readonly BenchRow[]): readonly BenchRow[] => groupBy(line, ({ seed }) => seed).map(([first]) => first);
  const hasSeeds = lines.some((line) => cellsOf(line).length > 1);
  const header = [...KEY_COLUMNS, ...(hasSeeds ? ['seeds'] : []), ...columns, 'seconds', 'peak MiB'];
  const body = lines.map((line) => {
    const [{ model, recipe, bits, groupSize }] = line;
    const cells = cellsOf(line);
    const sizes = cells.flatMap(({ bitsPerWeight }) => (bitsPerWeight === null ? [] : [bitsPerWeight]));
    return [
      model,
      recipe,
      bits === null ? '' : String(bits),
      groupSize === null ? '' : String(groupSize),
      sizes.length === 0 ? '' : mean(sizes).toFixed(2),
      ...(hasSeeds ? [String(cells.length)] : []),
      ...columns.map((name) => {
        const own = line.filter((row) => (isScore(row) ? row.evaluator === name : gives(row.evaluator, name)));
        return own.length === 0 ? '' : formatCell(own);
      }),
      mean(cells.map(({ seconds }) => seconds)).toFixed(1),
      String(Math.max(...line.map(({ peakRssMiB }) => peakRssMiB))),
    ];
  });
  return layOutTable(header, body, 2);
}

/** The scores that there are, and of what failed everywhere the evaluator. */
function columnsOf(rows: readonly BenchRow[]): string[] {
  const scores = new Set(rows.filter(isScore).map(({ evaluator }) => evaluator));
  const isColumn = (row: BenchRow): boolean => isScore(row) || ![...scores].some((score) => gives(row.evaluator, score));
  return [...new Set(rows.filter(isColumn).map(({ evaluator }) => evaluator))];
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
