// What the rows say about methods: how much of the loss that a baseline adds a method wins back.
import { type BenchRow, isScore, type ScoreRow } from './row.js';

/** The loss that two methods add to the dense model at one bit width. */
export interface ClosedGap {
  readonly model: string;
  readonly bits: number;
  readonly method: string;
  readonly baseline: string;
  /** Loss that each adds, nats per token, and its standard error. */
  readonly added: Estimate;
  readonly baselineAdded: Estimate;
  /**
   * 1 − added / baselineAdded: 0 is no better than the baseline, 1 as good as dense. Undefined where the baseline's own gap is within three
   * standard errors of none, so that there is nothing to win back.
   */
  readonly share: number | undefined;
}

interface Estimate {
  readonly value: number;
  readonly stderr: number;
}

const RESOLVED_ERRORS = 3;

/** Gaps closed by `method` over `baseline`, from the 'loss-gap' rows, for each model and bit width that has both. Means over seeds. */
export function closedGaps(rows: readonly BenchRow[], method: string, baseline: string): ClosedGap[] {
  const gaps = rows.filter((row): row is ScoreRow => isScore(row) && row.evaluator === 'loss-gap' && row.bits !== null);
  const models = [...new Set(gaps.map((row) => row.model))];
  const widths = [...new Set(gaps.flatMap((row) => row.bits ?? []))].sort((a, b) => b - a);
  return models.flatMap((model) =>
    widths.flatMap((bits) => {
      const at = (name: string): Estimate | undefined =>
        meanOf(gaps.filter((row) => row.model === model && row.bits === bits && row.method === name));
      const [added, baselineAdded] = [at(method), at(baseline)];
      if (!added || !baselineAdded) return [];
      const isResolved = baselineAdded.value > RESOLVED_ERRORS * baselineAdded.stderr;
      return [
        { model, bits, method, baseline, added, baselineAdded, share: isResolved ? 1 - added.value / baselineAdded.value : undefined },
      ];
    }),
  );
}

/** Mean over seeds. All seeds are judged on the same tokens, so averaging does not make the error of one smaller. */
function meanOf(rows: readonly ScoreRow[]): Estimate | undefined {
  if (rows.length === 0) return undefined;
  const mean = (pick: (row: ScoreRow) => number): number => rows.reduce((sum, row) => sum + pick(row), 0) / rows.length;
  return { value: mean((row) => row.value), stderr: mean((row) => row.stderr) };
}
