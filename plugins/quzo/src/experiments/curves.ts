// Loss against steps.
import type { ArmOutcome, ExperimentRow, RecipeExperiment, StepReference } from '@lowbit/core';
import { means, panels } from '@lowbit/core/experiments';
import type { QuzoInput } from '../options.js';
import { arm, bases, codeRules, NEEDS_TEXT, protocol, quzoStep, roundsOf, tiny } from './arms.js';

const STEPS = 1000;

/** Steps between two points. */
const EVERY = 50;

const runs: Readonly<Record<string, readonly [StepReference | undefined, QuzoInput]>> = {
  'float weights (MeZO)': [undefined, tiny.weights],
  'INT8 codes, error feedback': [bases.INT8, tiny.codes.INT8],
  'INT4 codes, error feedback': [bases.INT4, tiny.codes.INT4],
  'INT4 codes, rge2 and stochastic rounding': [bases.INT4, { ...tiny.codes.INT4, ...codeRules['rge2, stochastic rounding'] }],
  'INT4, ZO-LoRA': [bases.INT4, tiny.adapters],
  'INT4, scales (QZO)': [bases.INT4, tiny.scales.INT4],
};

const course: QuzoInput = { steps: STEPS, judgeEvery: EVERY, holdOut: 0.1 };

/** A row for each judgement. The figures of a model are those that `quzo` logs: windows that it holds out of what it trains on. */
function rowsOf(outcome: ArmOutcome): ExperimentRow[] {
  return roundsOf(outcome).map(({ step, loss = null, heldOutLoss = null }) => ({
    ...outcome.arm.parameters,
    step,
    loss,
    'held-out loss': heldOutLoss,
    ...(step % (STEPS / 5) === 0 && { steps: step }),
  }));
}

export const curves: RecipeExperiment = {
  name: 'curves',
  title: 'Loss against steps, by what is trained',
  description:
    `${STEPS} steps of 512 tokens with one direction each. The loss on windows that are held out of training, every ${EVERY} steps; also the loss of the batches at the perturbed models, which is what a run sees of itself. ` +
    `A curve that rises has too large a rate; rates are those of the other experiments, falling to 0. ${NEEDS_TEXT}`,
  source: 'arXiv 2502.12346, loss curves',
  ...protocol,
  models: ['tiny'],
  heldOutWindows: 8,
  arms: Object.entries(runs).map(([training, [base, options]]) =>
    arm([...(base ? [base] : []), quzoStep({ ...options, ...course })], { training }),
  ),
  rowsOf,
  table: { rows: ['model', 'training'], columns: 'steps', values: ['held-out loss'] },
  figure: panels(
    means('y', 'line', {
      x: { field: 'step', type: 'quantitative', title: 'steps' },
      y: { field: 'held-out loss', title: 'held-out loss, nats per token', scale: { zero: false } },
      color: { field: 'training', title: null, sort: Object.keys(runs) },
    }),
    { independent: ['y'], height: 300 },
  ),
};
