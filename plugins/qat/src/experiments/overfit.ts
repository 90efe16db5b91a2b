// Training on very little text: what is learned of it, and what of other text, step by step.
import type { ArmOutcome, ExperimentClaim, ExperimentRow, RecipeExperiment } from '@lowbit/core';
import {
  ascends,
  claimOn,
  difference,
  inEverySeed,
  logarithmic,
  panels,
  type Sample,
  type Specification,
  show,
  showSample,
  verdictsOn,
} from '@lowbit/core/experiments';
import { z } from 'zod';
import type { QatInput } from '../options.js';
import { arm, inGroups, protocol, straightThroughStep } from './arms.js';

const TEXT = 'cross-entropy';
const ANSWERS = 'KL';

const widths = [2, 4];
const rates = [3e-5, 1e-4, 3e-4, 1e-3, 3e-3];

/** What KL is compared at, and what must show the fault. */
const RATE = 1e-3;

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
const endRecord = z.object({ lossBefore: z.number() });

/**
 * A row for the start, and one for each judgement; the last one has the ends of both curves, where the one of held-out text turns, and what
 * the model has become on other text.
 */
function rowsOf({ arm, logs, scores }: ArmOutcome): ExperimentRow[] {
  const rounds = logs.filter(({ record }) => 'heldOutLoss' in record).map(({ record }) => roundRecord.parse(record));
  const { lossBefore } = endRecord.parse(logs.find(({ record }) => 'lossBefore' in record)?.record);
  const heldOut = rounds.map((round) => round.heldOutLoss);
  // Of what training made: the start would be the least of all rates that raise the loss from the first step.
  const least = Math.min(...heldOut);
  const start = { ...arm.parameters, step: 0, 'held-out loss': lossBefore };
  const curve = rounds.map(({ step, loss, heldOutLoss }, i) => ({
    ...arm.parameters,
    step,
    'training loss': loss,
    'held-out loss': heldOutLoss,
    ...(i === rounds.length - 1 && {
      'first training loss': rounds[0].loss,
      'training loss at the turn': rounds[heldOut.indexOf(least)].loss,
      'last training loss': loss,
      'first held-out loss': lossBefore,
      'least held-out loss': least,
      'last held-out loss': heldOutLoss,
      'loss-gap': scores['loss-gap'],
      isLast: true,
    }),
  }));
  return [start, ...curve];
}

/** By how much the loss on held-out text must rise from the turn to the end, nats a token: several times what it moves by from one judgement to the next. */
const RISE = 0.1;

const turns: ExperimentClaim = {
  name: 'Q4-overfit',
  statement: `Trained on the next token of 3072 tokens at a rate of ${RATE}, the model goes on to learn them after its loss on held-out text has turned up, by at least ${RISE} nats a token to the end, in every seed`,
  check: (rows) =>
    widths.flatMap((bits) =>
      verdictsOn(
        rows,
        {
          subject: `${bits} bits`,
          arms: { curve: { objective: TEXT, bits, rate: RATE, isLast: true } },
          fields: [
            'first training loss',
            'training loss at the turn',
            'last training loss',
            'first held-out loss',
            'least held-out loss',
            'last held-out loss',
          ],
        },
        ([first], [turn], [last], [start], [least], [end]) => ({
          holds: ascends([last, turn]) && inEverySeed(difference(end, least), (rise) => rise >= RISE),
          evidence: `on held-out text from ${showSample(start)} to ${showSample(least)}, then up to ${showSample(end)}; on trained text from ${showSample(first)} to ${showSample(turn)}, then down to ${showSample(last)}`,
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
    verdictsOn(
      rows,
      {
        subject: TEXT,
        arms: Object.fromEntries(
          widths.flatMap((bits) => rates.map((rate) => [`${bits} ${rate}`, { objective: TEXT, bits, rate, isLast: true }])),
        ),
        fields: ['least held-out loss'],
      },
      (least) => {
        const [two, four] = [least.slice(0, rates.length), least.slice(rates.length)];
        const shown = (samples: readonly Sample[]): string => samples.map(({ mean }, i) => `${show(mean)} at ${rates[i]}`).join(', ');
        return { holds: bestRate(four) < bestRate(two), evidence: `2 bits: ${shown(two)}; 4 bits: ${shown(four)}` };
      },
    ),
};

const gentler = claimOn(
  'Q5-overfit',
  `After the same steps at a rate of ${RATE}, training towards the answers of the dense model adds less loss on other text than training on the next token, in every seed`,
  widths.map((bits) => ({
    subject: `${bits} bits`,
    arms: Object.fromEntries([ANSWERS, TEXT].map((objective) => [objective, { objective, bits, rate: RATE, isLast: true }])),
    holds: ascends,
  })),
);

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
    'Codes of 2 and 4 bits in groups of 32, from rounding, with grids that are recomputed at every step; 12 windows of 256 tokens to train on, twenty times, and 4 to judge by after each pass. On the next token at five rates, constant from the first step to the last; for comparison towards the answers of the dense model. ' +
    'Nothing is kept but the last state. Look for curves of held-out loss that fall and turn up while those of the trained text go on falling, and for the rate at which they go lowest: the fewer codes, the more there is to make good, and the larger the rate that pays. Losses of KL are in nats of KL.',
  source: 'arXiv 2410.14570, QAFT on 128 sequences',
  ...protocol,
  calibrationWindows: CALIBRATION_WINDOWS,
  arms,
  rowsOf,
  table: {
    rows: ['model', 'objective', 'bits', 'rate'],
    values: ['first training loss', 'last training loss', 'first held-out loss', 'least held-out loss', 'last held-out loss', 'loss-gap'],
  },
  figure: {
    transform: [
      { fold: ['held-out loss', 'training loss'], as: ['measure', 'value'] },
      { filter: 'isValid(datum.value)' },
      { calculate: "datum.objective + ', ' + datum.bits + ' bits'", as: 'curves' },
    ],
    ...panels(curves, { row: { field: 'curves' }, independent: ['y'], height: 200 }),
  },
  claims: [turns, slower, gentler],
};
