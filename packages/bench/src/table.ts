// Rows as a Markdown table: one line per model, recipe and seed; one column per score.
import { formatNumber, layOutTable } from './markdown.js';
import { type BenchRow, isScore } from './row.js';

const KEY_COLUMNS = ['model', 'recipe', 'bits', 'group', 'bits/weight'] as const;

/** 'value ± stderr'; exact quantities have no ±, nor those whose error is not known. */
function formatScore(value: number, stderr: number): string {
  return stderr === 0 || Number.isNaN(stderr) ? formatNumber(value) : `${formatNumber(value)} ± ${Number(stderr.toPrecision(2))}`;
}

/** The cells of one model, recipe and seed. */
interface Line {
  readonly first: BenchRow;
  readonly scores: Map<string, string>;
  peakRssMiB: number;
}

/** A Markdown table in the order of the rows. The seed is a column when there is more than one. */
export function markdownTable(rows: readonly BenchRow[]): string {
  const lines = new Map<string, Line>();
  const evaluators: string[] = [];
  const hasSeeds = new Set(rows.map((row) => row.seed)).size > 1;
  for (const row of rows) {
    const key = JSON.stringify([row.model, row.recipe, row.seed]);
    const line = lines.get(key) ?? { first: row, scores: new Map<string, string>(), peakRssMiB: 0 };
    lines.set(key, line);
    line.peakRssMiB = Math.max(line.peakRssMiB, row.peakRssMiB);
    if (!evaluators.includes(row.evaluator)) evaluators.push(row.evaluator);
    line.scores.set(row.evaluator, isScore(row) ? formatScore(row.value, row.stderr) : row.error.code);
  }
  const header = [...KEY_COLUMNS, ...(hasSeeds ? ['seed'] : []), ...evaluators, 'seconds', 'peak MiB'];
  const body = [...lines.values()].map(({ first, scores, peakRssMiB }) => [
    first.model,
    first.recipe,
    first.bits === null ? '' : String(first.bits),
    first.groupSize === null ? '' : String(first.groupSize),
    first.bitsPerWeight === null ? '' : first.bitsPerWeight.toFixed(2),
    ...(hasSeeds ? [String(first.seed)] : []),
    ...evaluators.map((name) => scores.get(name) ?? ''),
    first.seconds.toFixed(1),
    String(peakRssMiB),
  ]);
  return layOutTable(header, body, 2);
}
