// What the rows say about methods: who is ahead, and how much of the baseline's loss a method wins back.
import { type BenchRow, isScore, type ScoreRow } from './row.js';

/** How much of the loss that `baseline` adds to the dense model's `method` wins back, at one bit width. */
export interface ClosedGap {
  readonly model: string;
  readonly bits: number;
  readonly method: string;
  readonly baseline: string;
  /** (baseline − method) / (baseline − dense), in nats per token: 0 is no better than the baseline, 1 as good as dense. */
  readonly share: number;
}

/** Mean of a score over seeds, by model and recipe. */
function meansOf(rows: readonly BenchRow[], evaluator: string): Map<string, { row: ScoreRow; mean: number }[]> {
  const byModel = new Map<string, Map<string, ScoreRow[]>>();
  for (const row of rows) {
    if (!isScore(row) || row.evaluator !== evaluator) continue;
    const recipes = byModel.get(row.model) ?? new Map<string, ScoreRow[]>();
    byModel.set(row.model, recipes.set(row.recipe, [...(recipes.get(row.recipe) ?? []), row]));
  }
  return new Map(
    [...byModel].map(([model, recipes]) => [
      model,
      [...recipes.values()].map((same) => ({ row: same[0], mean: same.reduce((sum, { value }) => sum + value, 0) / same.length })),
    ]),
  );
}

/** Gaps closed by `method` over `baseline`, one for each model and bit width that has rows of both and of the dense model. */
export function closedGaps(rows: readonly BenchRow[], method: string, baseline: string): ClosedGap[] {
  return [...meansOf(rows, 'perplexity')].flatMap(([model, means]) => {
    const dense = means.find(({ row }) => row.method === 'dense');
    if (!dense) return [];
    const loss = (name: string, bits: number | null): number | undefined => {
      const found = means.find(({ row }) => row.method === name && row.bits === bits);
      return found && Math.log(found.mean);
    };
    const widths = [...new Set(means.flatMap(({ row }) => (row.bits === null ? [] : [row.bits])))].sort((a, b) => b - a);
    return widths.flatMap((bits) => {
      const [ours, theirs, floor] = [loss(method, bits), loss(baseline, bits), Math.log(dense.mean)];
      return ours === undefined || theirs === undefined ? [] : [{ model, bits, method, baseline, share: (theirs - ours) / (theirs - floor) }];
    });
  });
}
