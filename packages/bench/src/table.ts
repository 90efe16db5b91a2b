// Rows as a Markdown table: one line per model and recipe; one column per score, over the seeds.
import { groupBy } from './groups.js';
import { formatNumber, layOutTable } from './markdown.js';
import { spreadOf } from './noise.js';
import { type BenchRow, type FailedRow, isScore } from './row.js';

const KEY_COLUMNS = ['model', 'recipe', 'bits', 'group', 'bits/weight'] as const;

/** 'value ± noise'; exact quantities have no ±, nor those whose error is not known. */
export function formatScore(value: number, noise: number): string {
  return noise === 0 || Number.isNaN(noise) ? formatNumber(value) : `${formatNumber(value)} ± ${Number(noise.toPrecision(2))}`;
}

/** The score of the seeds that have one; of others what went wrong. */
function formatCell(rows: readonly BenchRow[]): string {
  const [scores, failed] = [rows.filter(isScore), rows.filter((row): row is FailedRow => !isScore(row))];
  if (scores.length === 0) return [...new Set(failed.map(({ error }) => error.code))].join(', ');
  const { mean, noise } = spreadOf(scores);
  return `${formatScore(mean, noise)}${failed.length === 0 ? '' : `, ${failed.length} failed`}`;
}

/**
 * A Markdown table in the order of the rows: the mean over seeds ± the deviation between them, or the standard error where a recipe has one
 * seed. How many there are is a column where some have several.
 */
export function markdownTable(rows: readonly BenchRow[]): string {
  const evaluators = [...new Set(rows.map((row) => row.evaluator))];
  const lines = groupBy(rows, ({ model, recipe }) => [model, recipe]);
  const seedsOf = (line: readonly BenchRow[]): number => new Set(line.map(({ seed }) => seed)).size;
  const hasSeeds = lines.some((line) => seedsOf(line) > 1);
  const header = [...KEY_COLUMNS, ...(hasSeeds ? ['seeds'] : []), ...evaluators, 'seconds', 'peak MiB'];
  const body = lines.map((line) => {
    const [{ model, recipe, bits, groupSize }] = line;
    const sizes = line.flatMap(({ bitsPerWeight }) => (bitsPerWeight === null ? [] : [bitsPerWeight]));
    return [
      model,
      recipe,
      bits === null ? '' : String(bits),
      groupSize === null ? '' : String(groupSize),
      sizes.length === 0 ? '' : mean(sizes).toFixed(2),
      ...(hasSeeds ? [String(seedsOf(line))] : []),
      ...evaluators.map((name) => {
        const own = line.filter(({ evaluator }) => evaluator === name);
        return own.length === 0 ? '' : formatCell(own);
      }),
      mean(line.map(({ seconds }) => seconds)).toFixed(1),
      String(Math.max(...line.map(({ peakRssMiB }) => peakRssMiB))),
    ];
  });
  return layOutTable(header, body, 2);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
