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

/** Adapters, dense weights and scales for equal steps, with rates that were the best of a few on tiny. */
export const trainings = {
  lora: { preset: 'zo-lora-int4', learningRate: 4e-3 },
  mezo: { preset: 'mezo', distribution: 'rademacher', learningRate: 3e-4 },
} as const satisfies Record<string, QuzoInput>;

/** Scales of 4-bit codes are 17 times those of 8-bit ones: ε goes with the scale, η with its square. */
export const onScales: Readonly<Record<BaseName, QuzoInput>> = {
  INT8: { preset: 'qzo-int4', epsilon: 1e-5, learningRate: 2e-7 },
  INT4: { preset: 'qzo-int4', epsilon: 2e-4, learningRate: 2e-5 },
};

/**
 * One code of 8 bits at a time; a tenth of one of 4 bits, which is a larger share of a weight. Steps of 8-bit codes are of the order of a
 * code; those of 4-bit codes stay below half of one, where rounding to nearest drops all of them.
 */
export const onCodes: Readonly<Record<BaseName, QuzoInput & { readonly learningRate: number }>> = {
  INT8: { preset: 'quzo-lattice-int8', epsilon: 1, learningRate: 200 },
  INT4: { preset: 'quzo-lattice-int8', epsilon: 0.1, learningRate: 0.5 },
};

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
