// What the experiments on models are made of: the protocol, bases, ways to train them, and fields of their rows.
import type { ArmOutcome, ExperimentArm, ExperimentRow, StepReference } from '@lowbit/core';
import { z } from 'zod';
import type { QuzoInput } from '../options.js';

/** Three seeds draw text, batches and directions. */
export const protocol = { seeds: [0, 1, 2], calibrationWindows: 128, heldOutWindows: 40 } as const;

/** Said in every description: what the models were trained on teaches them nothing. */
export const NEEDS_TEXT =
  'Give a text that the models were not trained on (--text): one part of it is trained on and another judges, by the loss that is added to that of the dense model as it was, so that what is below zero has been learned.';

/** Forward passes of a batch that every arm may take; a step with one query takes two. */
export const PASSES = 800;

/** What every arm has: 512 tokens a step, rates that fall to 0, and the last state, whatever it is worth. */
const course: QuzoInput = { batchWindows: 2, queries: 1, schedule: 'linear', keepBest: false };

export const bases = {
  INT8: { method: 'rtn', options: { bits: 8, groupSize: 32 } },
  INT4: { method: 'rtn', options: { bits: 4, groupSize: 32 } },
} as const satisfies Record<string, StepReference>;

export type BaseName = keyof typeof bases;

type Rated = QuzoInput & { readonly learningRate: number };

/** How each kind of parameter of a model is perturbed and how fast it moves. Rates of one model are of no use for another. */
export interface Rates {
  readonly adapters: Rated;
  readonly weights: Rated;
  /** Those of 4-bit codes are 17 times as large as those of 8-bit ones: ε goes with the scale, η with its square. */
  readonly scales: Readonly<Record<BaseName, Rated>>;
  /**
   * One code of 8 bits at a time; a tenth of one of 4 bits, which is a larger share of a weight. Steps of 8-bit codes are of the order of a
   * code; those of 4-bit codes stay below half of one, where rounding to nearest drops all of them.
   */
  readonly codes: Readonly<Record<BaseName, Rated>>;
}

/** The published clip of 100 is in units of the scales, which differ from base to base; at these rates none is needed. */
const unclipped: QuzoInput = { preset: 'qzo-int4', clip: 0 };

function ratesOf(
  adapters: Rated,
  weights: number,
  scales: Readonly<Record<BaseName, Rated>>,
  codes: Readonly<Record<BaseName, number>>,
): Rates {
  return {
    adapters: { preset: 'zo-lora-int4', ...adapters },
    weights: { preset: 'mezo', distribution: 'rademacher', learningRate: weights },
    scales: {
      INT8: { ...unclipped, ...scales.INT8 },
      INT4: { ...unclipped, ...scales.INT4 },
    },
    codes: {
      INT8: { preset: 'quzo-lattice-int8', epsilon: 1, learningRate: codes.INT8 },
      INT4: { preset: 'quzo-lattice-int8', epsilon: 0.1, learningRate: codes.INT4 },
    },
  };
}

/** Found by short runs with a few rates each, on a part of the text that is trained on. */
export const tiny = ratesOf(
  { epsilon: 1e-2, learningRate: 4e-3 },
  3e-4,
  { INT8: { epsilon: 1e-5, learningRate: 1.5e-7 }, INT4: { epsilon: 1e-4, learningRate: 2e-5 } },
  { INT8: 200, INT4: 0.4 },
);

/** The same for a model whose losses are some ten times as steep. */
export const stories = ratesOf(
  { epsilon: 1e-3, learningRate: 3e-4 },
  1e-5,
  { INT8: { epsilon: 1e-5, learningRate: 2e-9 }, INT4: { epsilon: 1e-4, learningRate: 3e-7 } },
  { INT8: 40, INT4: 0.15 },
);

/** Ways to keep codes whole, by name; the last is the published rule with its normal directions. */
export const codeRules = {
  'error feedback': { rounding: 'error-feedback' },
  'stochastic rounding': { rounding: 'sr' },
  nearest: { rounding: 'nearest' },
  'rge2, stochastic rounding': { rounding: 'sr', estimator: 'rge2', distribution: 'gaussian' },
} as const satisfies Record<string, QuzoInput>;

export type RuleName = keyof typeof codeRules;

/** A run of as many forward passes as every other. */
export function quzoStep(options: QuzoInput): StepReference {
  const whole = { ...course, ...options };
  return { method: 'quzo', options: { steps: PASSES / (2 * (whole.queries ?? 1)), ...whole } };
}

/** An arm named after what is varied. */
export function arm(recipe: readonly StepReference[], parameters: ExperimentRow): ExperimentArm {
  return { name: Object.values(parameters).join(', '), recipe, parameters };
}

const roundRecord = z.object({
  step: z.int(),
  changedPerStep: z.number(),
  loss: z.number().optional(),
  heldOutLoss: z.number().optional(),
});
const lastRecord = z.object({ elements: z.int(), forwardPasses: z.int() });

type RoundRecord = z.output<typeof roundRecord>;

/** What `quzo` logged of each round of steps. */
export function roundsOf({ logs }: ArmOutcome): RoundRecord[] {
  return logs.filter(({ record }) => 'changedPerStep' in record).map(({ record }) => roundRecord.parse(record));
}

/**
 * A row of an arm: its scores; `elements`, how many numbers it trains; `changed`, the share of them that a step changes, 0 where none of them
 * ever did; `passes`, the forward passes of a batch that it took.
 */
export function rowsOf(outcome: ArmOutcome): ExperimentRow[] {
  const { arm, scores, logs } = outcome;
  const last = logs.find(({ record }) => 'forwardPasses' in record);
  if (!last) return [{ ...arm.parameters, ...scores }];
  const { elements, forwardPasses } = lastRecord.parse(last.record);
  const rounds = roundsOf(outcome);
  const changed = rounds.reduce((sum, { changedPerStep }) => sum + changedPerStep, 0) / (rounds.length * elements);
  return [{ ...arm.parameters, ...scores, elements, changed, passes: forwardPasses }];
}
