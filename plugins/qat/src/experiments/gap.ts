// The main figure: added loss by bits, for methods that keep layers and for training that keeps the model.
import type { ExperimentRow, RecipeExperiment } from '@lowbit/core';
import {
  ascends,
  type Comparison,
  claimOn,
  combine,
  difference,
  inEverySeed,
  logarithmic,
  means,
  panels,
  type Sample,
} from '@lowbit/core/experiments';
import { arm, codesStep, decoupleqStep, gptqStep, inGroups, protocol, rtnStep, straightThroughStep } from './arms.js';
import { ascending } from './claims.js';

const RTN = 'RTN';
const GPTQ = 'GPTQ';
const DECOUPLEQ = 'decoupleQ';
const STRAIGHT = 'QAT from rounding';
const LEARNED = 'decoupleQ + QAT';

const methods = [RTN, GPTQ, DECOUPLEQ, STRAIGHT, LEARNED];

const arms = [2, 3, 4, 8].flatMap((bits) => {
  const format = inGroups(bits);
  const named = (recipe: Parameters<typeof arm>[0], method: string) => arm(recipe, { bits, method });
  const few = [named([decoupleqStep(format)], DECOUPLEQ), named([decoupleqStep(format), codesStep(bits)], LEARNED)];
  return [
    named([rtnStep(format)], RTN),
    named([gptqStep(format)], GPTQ),
    named([straightThroughStep(format)], STRAIGHT),
    // At 8 bits nothing is left to choose.
    ...(bits < 8 ? few : []),
  ];
});

function at(bits: number, ...methods: readonly string[]): Record<string, ExperimentRow> {
  return Object.fromEntries(methods.map((method) => [method, { bits, method }]));
}

/** Bits of which the gap to GPTQ is compared, in the order in which it must grow. */
const falling = [8, 4, 3, 2];

/** What GPTQ adds over what training adds, from 8 bits to 2. */
function gapsOf(losses: readonly Sample[]): Sample[] {
  return falling.map((_, i) => difference(losses[2 * i], losses[2 * i + 1]));
}

const widening: Comparison = {
  subject: `GPTQ less ${STRAIGHT}`,
  arms: Object.fromEntries(
    falling.flatMap((bits) => Object.entries(at(bits, GPTQ, STRAIGHT)).map(([key, row]) => [`${key} ${bits}`, row])),
  ),
  holds: (losses) => ascends(gapsOf(losses)),
  figures: (losses) => Object.fromEntries(gapsOf(losses).map((gap, i) => [`${falling[i]} bits:`, gap])),
};

/** Of what GPTQ adds. */
const FAR = 0.5;

/** Nats a token: 0.1 % of perplexity. */
const NOISE = 0.001;

const bar: Comparison = {
  subject: '2 bits, groups of 32',
  arms: at(2, LEARNED, DECOUPLEQ, GPTQ),
  holds: ([trained, start, gptq]) =>
    ascends([trained, start]) &&
    inEverySeed(
      combine((a, b) => a - FAR * b, trained, gptq),
      (excess) => excess < 0,
    ),
};

/** The second hands back its start where nothing is better on held-out windows; the first has no such way out. */
const harmless = [STRAIGHT, LEARNED].map(
  (method): Comparison => ({
    subject: `4 bits, groups of 32, ${method}`,
    arms: at(4, method, RTN, GPTQ, DECOUPLEQ),
    holds([trained, ...local]) {
      const best = local.reduce((least, one) => (one.mean < least.mean ? one : least));
      return difference(trained, best).mean <= NOISE;
    },
  }),
);

export const gap: RecipeExperiment = {
  name: 'gap',
  title: 'Training the model against keeping its layers, at 2, 3, 4 and 8 bits',
  description:
    'Codes in groups of 32. RTN, GPTQ and decoupleQ keep the outputs of the layers on calibration text; QAT trains the weights of the whole model, through the rounding, on the same windows, three passes in steps of 1024 tokens, towards the answers of the dense model (KL), at the better of two rates on held-out windows. ' +
    '"QAT from rounding" has the quantizer of the paper, grids that are recomputed from the weights at every step; "decoupleQ + QAT" starts from the codes, scales and offsets of decoupleQ, with weights behind them that are the dense ones as far as the codes allow, and trains all of them at smaller rates. ' +
    'Look for a distance to GPTQ that widens as bits fall, and for the order of decoupleQ and training from rounding at 2 bits, which the paper does not compare.',
  source: 'arXiv 2410.14570, figures of loss by bits; decoupleQ is arXiv 2404.12759',
  ...protocol,
  arms,
  table: { rows: ['model', 'method'], columns: 'bits', values: ['loss-gap', 'kl', 'perplexity'] },
  // What 8 bits add is next to nothing, of either sign, and has no place on a logarithmic axis.
  figure: {
    transform: [{ filter: 'datum.bits < 8' }],
    ...panels(
      means('y', 'line', {
        x: { field: 'bits', type: 'ordinal', title: 'bits per code', axis: { labelAngle: 0 } },
        y: { field: 'loss-gap', title: 'added loss, nats per token', scale: logarithmic },
        color: {
          field: 'method',
          title: 'method',
          sort: methods,
          scale: { range: ['#8c8c8c', '#4c78a8', '#54a24b', '#f58518', '#d62728'] },
        },
      }),
      { independent: ['y'] },
    ),
  },
  claims: [
    claimOn(
      'Q1-order',
      'At 2 and 3 bits training from rounding adds less loss than GPTQ, and GPTQ less than rounding to nearest, in every seed',
      [2, 3].map((bits) => ascending(`${bits} bits`, at(bits, STRAIGHT, GPTQ, RTN))),
    ),
    claimOn('Q1-gap', 'The loss that GPTQ adds over training from rounding grows as bits fall: 8, 4, 3, 2, in every seed', [widening]),
    claimOn(
      'bar-2',
      `At 2 bits QAT from decoupleQ adds less loss than decoupleQ, and at most ${100 * FAR} % of what GPTQ adds, in every seed`,
      [bar],
    ),
    claimOn(
      'bar-4',
      `At 4 bits QAT, from rounding and from decoupleQ, adds at most ${NOISE} nats more than the best method without training, on average over seeds`,
      harmless,
    ),
  ],
};
