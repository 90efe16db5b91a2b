// What each method must give on the embedded model: a brief benchmark, the scores that it gave seed by seed, and who must be better than whom.
import { formatNumber, layOutTable } from '../markdown.js';
import { type Comparison, compare, deviationOf, meanOf, spreadOf } from '../noise.js';
import type { PlanDraft } from '../plan.js';
import { brief, weightOnly, weightsAndInputs } from '../preset-recipes.js';
import { type BenchRow, type FailedRow, isScore, type ScoreRow } from '../row.js';

/** Two bits, where methods differ most, and inputs of 4. */
export const gateDraft: PlanDraft = {
  models: ['tiny'],
  // What training makes, also where it is not better than what it was given: keeping that would hide a training that is broken.
  recipes: [...weightOnly(2, { ...brief, qat: { ...brief.qat, keepBest: false } }), ...weightsAndInputs],
  evaluators: ['text'],
  seeds: [0],
  calibration: { windows: 64, window: 128 },
  heldOut: { windows: 32, window: 128 },
};

/** What seeds make of a loss is recorded with three; the gate runs the first. */
export const RECORDED_SEEDS: readonly number[] = [0, 1, 2];

/** The loss that quantizing adds, and the divergence from the dense model, which is less noisy: who is better is asked of it. */
export const GATE_SCORES = ['loss-gap', 'kl'] as const;

type GateScore = (typeof GATE_SCORES)[number];

/** Nats per token of a recipe, for each seed. */
type RecordedScores = Readonly<Record<GateScore, readonly number[]>>;

/** losses.json. */
export interface GateRecord {
  /** Of the plan that gave them, versions of methods among it. */
  readonly digest: string;
  readonly commit: string | null;
  /** With its version and threads. */
  readonly engine: string;
  /** The first of those that are to be recorded. */
  readonly seeds: readonly number[];
  readonly recipes: Readonly<Record<string, RecordedScores>>;
}

/** Where nothing depends on the seed, as a share of what was recorded: what another order of summation makes of it. */
const LEAST_MARGIN = 0.02;

const DEVIATIONS = 3;

/**
 * What a score should be, and how far from it one run may be. Runs are equal to the bit on one processor with one number of threads; on another one
 * sums have other last digits, from which methods that iterate and round go other ways: as far as with another seed.
 */
export function expectationOf(recorded: readonly number[]): { readonly mean: number; readonly margin: number } {
  const mean = meanOf(recorded);
  const spread = recorded.length > 1 ? DEVIATIONS * deviationOf(recorded, mean) : 0;
  return { mean, margin: Math.max(LEAST_MARGIN * mean, spread) };
}

/** The better one first: what makes a method worth having, by the divergence. */
export const ORDERS = [
  ['gptq-2', 'rtn-2'],
  ['decoupleq-2', 'gptq-2'],
  ['gptq-2+lrec', 'gptq-2'],
  ['decoupleq-2+qat', 'decoupleq-2'],
  ['gptq-w4a4', 'rtn-w4a4'],
  ['rotate-w4a4', 'gptq-w4a4'],
  ['quad-w4a4', 'rotate-w4a4'],
] as const satisfies readonly (readonly [string, string])[];

/** One score of one recipe. */
export interface GateLine {
  readonly recipe: string;
  readonly score: GateScore;
  /** Mean over the seeds, and how far a run may be from it. */
  readonly recorded: number;
  readonly margin: number;
  /** Undefined where the recipe failed. */
  readonly measured: number | undefined;
  readonly verdict: 'holds' | 'better' | 'worse' | 'failed';
}

/** Two recipes in the order in which they should be. */
export interface GateOrder {
  readonly better: string;
  readonly worse: string;
  /** From the one to the other; undefined where one failed. */
  readonly comparison: Comparison | undefined;
  readonly holds: boolean;
}

const scoresOf = (rows: readonly BenchRow[], recipe: string, score: GateScore): ScoreRow[] =>
  rows.filter(isScore).filter((row) => row.recipe === recipe && row.evaluator === score);

/** Of the recipes of the draft, seed by seed as the rows come. What failed has fewer. */
export function recordOf(rows: readonly BenchRow[]): GateRecord['recipes'] {
  const valuesOf = (recipe: string, score: GateScore): number[] =>
    scoresOf(rows, recipe, score).map(({ value }) => Number(value.toPrecision(6)));
  return Object.fromEntries(
    gateDraft.recipes.map(({ name }) => [name, { 'loss-gap': valuesOf(name, 'loss-gap'), kl: valuesOf(name, 'kl') }]),
  );
}

/** Every score that was recorded, against the rows of one run. */
export function judgeScores(recipes: GateRecord['recipes'], rows: readonly BenchRow[]): GateLine[] {
  return Object.entries(recipes).flatMap(([recipe, scores]) =>
    GATE_SCORES.map((score): GateLine => {
      const { mean: recorded, margin } = expectationOf(scores[score]);
      const measured = scoresOf(rows, recipe, score)[0]?.value;
      const excess = measured === undefined ? Number.NaN : measured - recorded;
      const verdict = measured === undefined ? 'failed' : excess > margin ? 'worse' : excess < -margin ? 'better' : 'holds';
      return { recipe, score, recorded, margin, measured, verdict };
    }),
  );
}

/** Whether what should be better is so, by more than noise. */
export function judgeOrders(rows: readonly BenchRow[]): GateOrder[] {
  return ORDERS.map(([better, worse]) => {
    const [own, others] = [better, worse].map((recipe) => scoresOf(rows, recipe, 'kl'));
    if (own.length === 0 || others.length === 0) return { better, worse, comparison: undefined, holds: false };
    const comparison = compare(spreadOf(own), spreadOf(others));
    return { better, worse, comparison, holds: comparison.isClear && comparison.difference > 0 };
  });
}

/** Tables of both, and the messages of what failed. */
export function gateText(lines: readonly GateLine[], orders: readonly GateOrder[], rows: readonly BenchRow[]): string {
  const scores = lines.map(({ recipe, score, recorded, margin, measured, verdict }) => [
    ...[recipe, score, verdict, formatNumber(recorded), `± ${Number(margin.toPrecision(2))}`],
    measured === undefined ? '' : formatNumber(measured),
  ]);
  const pairs = orders.map(({ better, worse, comparison, holds }) => [
    ...[`${better} < ${worse}`, holds ? 'holds' : 'broken'],
    comparison ? `${formatNumber(comparison.difference)} ± ${Number(comparison.noise.toPrecision(2))}` : '',
  ]);
  const failed = rows
    .filter((row): row is FailedRow => !isScore(row))
    .map(({ recipe, error }) => `- ${recipe}: ${error.message.split('\n')[0]}`);
  return [
    layOutTable(['recipe', 'score', 'verdict', 'recorded', 'margin', 'measured'], scores, 3),
    '',
    layOutTable(['kl', 'verdict', 'difference'], pairs, 2),
    ...(failed.length === 0 ? [] : ['', ...failed]),
  ].join('\n');
}
