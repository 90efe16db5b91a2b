// Training on very little text: what is learned of it, and what of other text, step by step.
import type { ArmOutcome, ClaimVerdict, ExperimentClaim, ExperimentRow, RecipeExperiment } from '@lowbit/core';
import {
  ascends,
  logarithmic,
  panels,
  type Sample,
  type Specification,
  samplesOf,
  show,
  showSample,
  valuesOf,
} from '@lowbit/core/experiments';
import { z } from 'zod';
import type { QatInput } from '../options.js';
import { arm, inGroups, protocol, straightThroughStep } from './arms.js';

const TEXT = 'cross-entropy';
const ANSWERS = 'KL';

const widths = [2, 4];
const rates = [1e-4, 3e-4, 1e-3, 3e-3];

/** What KL is compared at, and what must show the fault. */
const [, , RATE] = rates;

/** 12 windows to train on and 4 to judge by: 3072 tokens, three steps a pass. */
const CALIBRATION_WINDOWS = 16;

/** One rate from the first step to the last, so that a curve is that of a rate; the last state counts. */
const course: QatInput = { epochs: 20, holdOut: 0.25, judgeEvery: 3, schedule: 'constant', warmup: 0, keepBest: false };

const objectives = [
  { objective: TEXT, options: { objective: 'ce' }, rates },
  { objective: ANSWERS, options: { objective: 'kl' }, rates: [RATE] },
] as const;

const arms = widths.flatMap((bits) =>
  objectives.flatMap(({ objective, options, rates }) =>
    rates.map((rate) =>
      arm([straightThroughStep(inGroups(bits), { ...course, ...options, learningRate: rate })], { objective, bits, rate }),
    ),
  ),
);

const roundRecord = z.object({ step: z.int(), loss: z.number(), heldOutLoss: z.number() });

/** A row for each judgement; the last one has the ends of both curves, and what the model has become on other text. */
function rowsOf({ arm, logs, scores }: ArmOutcome): ExperimentRow[] {
  const rounds = logs.filter(({ record }) => 'heldOutLoss' in record).map(({ record }) => roundRecord.parse(record));
  const heldOut = rounds.map((round) => round.heldOutLoss);
  return rounds.map(({ step, loss, heldOutLoss }, i) => ({
    ...arm.parameters,
    step,
    'training loss': loss,
    'held-out loss': heldOutLoss,
    ...(i === rounds.length - 1 && {
      'first training loss': rounds[0].loss,
      'last training loss': loss,
      'least held-out loss': Math.min(...heldOut),
      'last held-out loss': heldOutLoss,
      'loss-gap': scores['loss-gap'],
      isLast: true,
    }),
  }));
}

/** A verdict for each model whose rows have all of some curves; `fields` of the last row of each. */
function verdicts(
  rows: readonly ExperimentRow[],
  subject: string,
  curves: readonly ExperimentRow[],
  fields: readonly string[],
  judge: (samples: readonly (readonly Sample[])[]) => Omit<ClaimVerdict, 'subject'>,
): ClaimVerdict[] {
  return valuesOf(rows, 'model').flatMap((model) => {
    const settings = curves.map((curve) => ({ model, isLast: true, ...curve }));
    const samples = fields.map((field) => samplesOf(rows, settings, field));
    return samples.every((sample) => sample !== undefined) ? [{ subject: `${String(model)}, ${subject}`, ...judge(samples) }] : [];
  });
}

const turns: ExperimentClaim = {
  name: 'Q4-overfit',
  statement: `Trained on the next token of 3072 tokens at a rate of ${RATE}, the model goes on to learn them while its loss on held-out text turns up, in every seed`,
  check: (rows) =>
    widths.flatMap((bits) =>
      verdicts(
        rows,
        `${bits} bits`,
        [{ objective: TEXT, bits, rate: RATE }],
        ['last training loss', 'first training loss', 'least held-out loss', 'last held-out loss'],
        ([[last], [first], [least], [end]]) => ({
          holds: ascends([last, first]) && ascends([least, end]),
          evidence: `on trained text from ${showSample(first)} to ${showSample(last)}; on held-out text from ${showSample(least)} up to ${showSample(end)}`,
        }),
      ),
    ),
};

/** The rate whose curve on held-out text goes lowest, on average over seeds. */
function bestRate(least: readonly Sample[]): number {
  const means = least.map(({ mean }) => mean);
  return rates[means.indexOf(Math.min(...means))];
}

const slower: ExperimentClaim = {
  name: 'Q4-rate',
  statement: 'The rate whose curve on held-out text goes lowest is smaller at 4 bits than at 2',
  check: (rows) =>
    verdicts(
      rows,
      TEXT,
      widths.flatMap((bits) => rates.map((rate) => ({ objective: TEXT, bits, rate }))),
      ['least held-out loss'],
      ([least]) => {
        const [two, four] = [least.slice(0, rates.length), least.slice(rates.length)];
        const shown = (samples: readonly Sample[]): string => samples.map(({ mean }, i) => `${show(mean)} at ${rates[i]}`).join(', ');
        return { holds: bestRate(four) < bestRate(two), evidence: `2 bits: ${shown(two)}; 4 bits: ${shown(four)}` };
      },
    ),
};

const gentler: ExperimentClaim = {
  name: 'Q5-overfit',
  statement: `After the same steps at a rate of ${RATE}, training towards the answers of the dense model adds less loss on other text than training on the next token, in every seed`,
  check: (rows) =>
    widths.flatMap((bits) =>
      verdicts(
        rows,
        `${bits} bits`,
        [ANSWERS, TEXT].map((objective) => ({ objective, bits, rate: RATE })),
        ['loss-gap'],
        ([[answers, text]]) => ({
          holds: ascends([answers, text]),
          evidence: `${ANSWERS} ${showSample(answers)}; ${TEXT} ${showSample(text)}`,
        }),
      ),
    ),
};

/** Both losses of an arm in one colour, the held-out one as a full line. */
const curves: Specification = {
  mark: { type: 'line' },
  encoding: {
    x: { field: 'step', type: 'quantitative', title: 'steps of 1024 tokens' },
    y: { field: 'value', type: 'quantitative', aggregate: 'mean', title: 'nats per token', scale: logarithmic },
    color: { field: 'rate', type: 'ordinal', title: 'rate' },
    strokeDash: { field: 'measure', type: 'nominal', title: null, sort: ['held-out loss', 'training loss'] },
  },
};

export const overfit: RecipeExperiment = {
  name: 'overfit',
  title: 'Training on very little text: loss on it and on held-out text by step, rate and objective',
  description:
    'Codes of 2 and 4 bits in groups of 32, from rounding, with grids that are recomputed at every step; 12 windows of 256 tokens to train on, twenty times, and 4 to judge by after each pass. On the next token at four rates, constant from the first step to the last; for comparison towards the answers of the dense model. ' +
    'Nothing is kept but the last state. Look for curves of held-out loss that fall and turn up while those of the trained text go on falling, and for the rate at which they go lowest: the fewer codes, the more there is to make good, and the larger the rate that pays. Losses of KL are in nats of KL.',
  source: 'arXiv 2410.14570, QAFT on 128 sequences',
  ...protocol,
  calibrationWindows: CALIBRATION_WINDOWS,
  arms,
  rowsOf,
  table: {
    rows: ['model', 'objective', 'bits', 'rate'],
    values: ['first training loss', 'last training loss', 'least held-out loss', 'last held-out loss', 'loss-gap'],
  },
  figure: {
    transform: [
      { fold: ['held-out loss', 'training loss'], as: ['measure', 'value'] },
      { calculate: "datum.objective + ', ' + datum.bits + ' bits'", as: 'curves' },
    ],
    ...panels(curves, { row: { field: 'curves' }, independent: ['y'], height: 200 }),
  },
  claims: [turns, slower, gentler],
};
