// What the rows say about methods: how much of the loss that a baseline adds a method wins back.
import { groupBy } from './groups.js';
import { type BenchRow, isScore, type ScoreRow } from './row.js';

/** The loss that a recipe of a method and the same of a baseline add to the dense model at one bit width and group size. */
export interface ClosedGap {
  readonly model: string;
  readonly bits: number;
  readonly groupSize: number | null;
  readonly method: string;
  readonly baseline: string;
  /** Names of the two recipes. */
  readonly recipe: string;
  readonly baselineRecipe: string;
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

/**
 * Gaps closed by `method` over `baseline`, from the 'loss-gap' rows: for each model and each recipe of the method, against the baseline's
 * recipe of equal bits and group size. Where the baseline has several of these, none is the one to compare with. Means over seeds.
 */
export function closedGaps(rows: readonly BenchRow[], method: string, baseline: string): ClosedGap[] {
  const gaps = rows.filter((row): row is ScoreRow => isScore(row) && row.evaluator === 'loss-gap' && row.bits !== null);
  const own = groupBy(
    gaps.filter((row) => row.method === method),
    (row) => [row.model, row.recipe],
  );
  const closed = own.flatMap((group): ClosedGap[] => {
    const { model, recipe, bits, groupSize } = group[0];
    const others = gaps.filter((row) => row.method === baseline && row.model === model && row.bits === bits && row.groupSize === groupSize);
    const baselineRecipe = others[0]?.recipe;
    if (bits === null || baselineRecipe === undefined || others.some((row) => row.recipe !== baselineRecipe)) return [];
    const [added, baselineAdded] = [meanOf(group), meanOf(others)];
    const isResolved = baselineAdded.value > RESOLVED_ERRORS * baselineAdded.stderr;
    const share = isResolved ? 1 - added.value / baselineAdded.value : undefined;
    return [{ model, bits, groupSize, method, baseline, recipe, baselineRecipe, added, baselineAdded, share }];
  });
  const models = [...new Set(gaps.map((row) => row.model))];
  return closed.sort((a, b) => models.indexOf(a.model) - models.indexOf(b.model) || b.bits - a.bits);
}

/** Mean over seeds. All seeds are judged on the same tokens, so averaging does not make the error of one smaller. */
function meanOf(rows: readonly ScoreRow[]): Estimate {
  const mean = (pick: (row: ScoreRow) => number): number => rows.reduce((sum, row) => sum + pick(row), 0) / rows.length;
  return { value: mean((row) => row.value), stderr: mean((row) => row.stderr) };
}
