// What each method's loss on the embedded model must be: a brief benchmark, and the losses that it gave, with what seeds make of them.
import { formatNumber, layOutTable } from '../markdown.js';
import { spreadOf } from '../noise.js';
import { DENSE } from '../outcome.js';
import type { PlanDraft } from '../plan.js';
import { brief, weightOnly, weightsAndInputs } from '../preset-recipes.js';
import { type BenchRow, type FailedRow, isScore, type ScoreRow } from '../row.js';

/** Two bits, where methods differ most, and inputs of 4: small enough to be run before every change is taken. */
export const gateDraft: PlanDraft = {
  models: ['tiny'],
  // What training makes, also where it is not better than what it was given: keeping that would hide a training that is broken.
  recipes: [...weightOnly(2, { ...brief, qat: { ...brief.qat, keepBest: false } }), ...weightsAndInputs],
  evaluators: ['text'],
  seeds: [0],
  calibration: { windows: 64, window: 128 },
  heldOut: { windows: 32, window: 128 },
};

/** The seeds that the noise is measured with. */
export const RECORDED_SEEDS: readonly number[] = [0, 1, 2];

/** losses.json. */
export interface GateRecord {
  /** Of the plan that gave them, versions of methods among it. */
  readonly digest: string;
  readonly commit: string | null;
  /** Those that were measured; of one alone the tolerance comes from the standard error. */
  readonly seeds: readonly number[];
  readonly losses: Readonly<Record<string, RecordedLoss>>;
}

/** Nats per token that a recipe adds to the dense model. */
interface RecordedLoss {
  /** Mean over the seeds. */
  readonly loss: number;
  /** Standard deviation between them. */
  readonly deviation: number;
  /** How far above `loss` a run with one seed may be. */
  readonly tolerance: number;
}

export interface GateLine extends RecordedLoss {
  readonly recipe: string;
  /** Undefined where the recipe failed. */
  readonly measured: number | undefined;
  readonly verdict: 'holds' | 'better' | 'worse' | 'failed';
}

/** Of three seeds the deviation is itself uncertain: one run in a hundred is three and more away. */
const DEVIATIONS = 4;

/** What another processor's order of summation makes of a loss that no seed changes, as a share of it. */
const LEAST_SHARE = 0.02;

const isGap = (row: BenchRow): row is ScoreRow => isScore(row) && row.evaluator === 'loss-gap' && row.recipe !== DENSE;

/** The losses of recipes that have one. */
export function lossesOf(rows: readonly BenchRow[]): GateRecord['losses'] {
  const gaps = rows.filter(isGap);
  const recipes = [...new Set(gaps.map(({ recipe }) => recipe))];
  const entries = recipes.map((name): [string, RecordedLoss] => {
    const { mean, deviation: noise = 0 } = spreadOf(gaps.filter(({ recipe }) => recipe === name));
    const [loss, deviation] = [mean, noise].map((value) => Number(value.toPrecision(4)));
    const tolerance = Number(Math.max(DEVIATIONS * noise, LEAST_SHARE * mean).toPrecision(2));
    return [name, { loss, deviation, tolerance }];
  });
  return Object.fromEntries(entries);
}

/** Every recipe that was recorded, against the rows of a run with one seed. */
export function judgeLosses(losses: GateRecord['losses'], rows: readonly BenchRow[]): GateLine[] {
  return Object.entries(losses).map(([recipe, recorded]) => {
    const measured = rows.filter(isGap).find((row) => row.recipe === recipe)?.value;
    const excess = measured === undefined ? Number.NaN : measured - recorded.loss;
    const verdict =
      measured === undefined ? 'failed' : excess > recorded.tolerance ? 'worse' : excess < -recorded.tolerance ? 'better' : 'holds';
    return { recipe, ...recorded, measured, verdict };
  });
}

/** A table, and the messages of what failed. */
export function gateText(lines: readonly GateLine[], rows: readonly BenchRow[]): string {
  const body = lines.map(({ recipe, loss, tolerance, measured, verdict }) => [
    ...[recipe, verdict, `${formatNumber(loss)} ± ${formatNumber(tolerance)}`],
    measured === undefined ? '' : formatNumber(measured),
  ]);
  const failed = rows
    .filter((row): row is FailedRow => !isScore(row))
    .map(({ recipe, error }) => `- ${recipe}: ${error.message.split('\n')[0]}`);
  const table = layOutTable(['recipe', 'verdict', 'committed', 'measured'], body, 2);
  return [table, ...(failed.length === 0 ? [] : ['', ...failed])].join('\n');
}
