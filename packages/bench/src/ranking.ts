// What the rows say about methods: how much of the loss that a baseline adds a method wins back.
import { groupBy } from './groups.js';
import { areJudgedAlike, judgedAlike } from './judged-alike.js';
import { spreadOf } from './noise.js';
import { type BenchRow, isScore, type ScoreRow } from './row.js';

/** The loss that a recipe of a method and the same of a baseline add to the dense model at one width of weights and inputs and one group size. */
export interface ClosedGap {
  readonly model: string;
  readonly bits: number;
  /** Undefined where inputs are not quantized. */
  readonly activationBits: number | undefined;
  readonly groupSize: number | null;
  readonly method: string;
  readonly baseline: string;
  /** Names of the two recipes. */
  readonly recipe: string;
  readonly baselineRecipe: string;
  /** Loss that each adds, nats per token: mean over seeds, and its standard error over text and seeds. */
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
 * recipe of equal bits of weights and inputs and equal groups, judged alike. Where the baseline has several of these, none is the one to
 * compare with.
 */
export function closedGaps(rows: readonly BenchRow[], method: string, baseline: string): ClosedGap[] {
  const gaps = rows.filter((row): row is ScoreRow => isScore(row) && row.evaluator === 'loss-gap' && row.bits !== null);
  const own = groupBy(
    gaps.filter((row) => row.method === method),
    (row) => [row.model, row.recipe],
  ).flatMap(judgedAlike);
  const closed = own.flatMap((group): ClosedGap[] => {
    const { model, recipe, bits, activationBits, groupSize } = group[0];
    const isAlike = (row: ScoreRow): boolean =>
      row.model === model &&
      row.bits === bits &&
      row.activationBits === activationBits &&
      row.groupSize === groupSize &&
      areJudgedAlike(row, group[0]);
    const others = gaps.filter((row) => row.method === baseline && isAlike(row));
    const baselineRecipe = others[0]?.recipe;
    if (bits === null || baselineRecipe === undefined || others.some((row) => row.recipe !== baselineRecipe)) return [];
    const [added, baselineAdded] = [estimateOf(group), estimateOf(others)];
    const isResolved = baselineAdded.value > RESOLVED_ERRORS * baselineAdded.stderr;
    const share = isResolved ? 1 - added.value / baselineAdded.value : undefined;
    return [{ model, bits, activationBits, groupSize, method, baseline, recipe, baselineRecipe, added, baselineAdded, share }];
  });
  const models = [...new Set(gaps.map((row) => row.model))];
  return closed.sort((a, b) => models.indexOf(a.model) - models.indexOf(b.model) || b.bits - a.bits);
}

function estimateOf(rows: readonly ScoreRow[]): Estimate {
  const { mean, noise } = spreadOf(rows);
  return { value: mean, stderr: noise };
}
