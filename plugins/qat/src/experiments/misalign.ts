// Local objectives against the global one: error of the layers' outputs against the loss that is added.
import type { ExperimentClaim, ExperimentRow, StudyExperiment } from '@lowbit/core';
import {
  ascends,
  combine,
  logarithmic,
  panels,
  rankCorrelation,
  type Sample,
  samplesOf,
  show,
  showSample,
  valuesOf,
} from '@lowbit/core/experiments';
import { arm, decoupleqStep, gptqStep, inGroups, qatStep, rtnStep, straightThroughStep } from './arms.js';
import { inEverySeed } from './claims.js';
import { lossAxis, studyProtocol } from './lines.js';
import { distanceOf, pointOf } from './weight-space.js';

const RTN = 'RTN';
const GPTQ = 'GPTQ';
const STRAIGHT = 'QAT from rounding';

const widths = [2, 3, 4];

const arms = widths.flatMap((bits) => {
  const format = inGroups(bits);
  const recipes = {
    [RTN]: [rtnStep(format)],
    [GPTQ]: [gptqStep(format)],
    'GPTQ, clipped': [gptqStep(format, 'mse')],
    decoupleQ: [decoupleqStep(format)],
    [STRAIGHT]: [straightThroughStep(format)],
    'decoupleQ + QAT': [decoupleqStep(format), qatStep(bits)],
  };
  return Object.entries(recipes).map(([method, recipe]) => arm(recipe, { bits, method }));
});

const methods = [...new Set(arms.map(({ parameters }) => String(parameters?.['method'])))];

/** Means over seeds of the local error and of the added loss of some settings; undefined where one has no rows. */
function meansOf(rows: readonly ExperimentRow[], settings: readonly ExperimentRow[]): readonly (readonly number[])[] | undefined {
  const samples = ['layer-error', 'loss-gap'].map((field) => samplesOf(rows, settings, field));
  return samples.every((one) => one !== undefined) ? samples.map((one) => one.map(({ mean }) => mean)) : undefined;
}

const TWICE = 2;

const misaligned: ExperimentClaim = {
  name: 'Q2',
  statement: `At 2 and 3 bits the layers of QAT have at least ${TWICE} times the local error of GPTQ's, and the model adds less loss, in every seed`,
  check: (rows) =>
    valuesOf(rows, 'model').flatMap((model) =>
      [2, 3].flatMap((bits) => {
        const settings = [STRAIGHT, GPTQ, RTN].map((method) => ({ model, bits, method }));
        const [errors, gaps] = ['layer-error', 'loss-gap'].map((field) => samplesOf(rows, settings, field));
        if (!errors || !gaps) return [];
        const over = (sample: Sample): Sample => combine((a, b) => a / b, sample, errors[1]);
        const holds = inEverySeed(over(errors[0]), (ratio) => ratio >= TWICE) && ascends(gaps.slice(0, 2));
        const local = `error over GPTQ's: QAT ${showSample(over(errors[0]))}, RTN ${showSample(over(errors[2]))}`;
        return [
          {
            subject: `${String(model)}, ${bits} bits`,
            holds,
            evidence: `${local}; loss: QAT ${showSample(gaps[0])}, GPTQ ${showSample(gaps[1])}`,
          },
        ];
      }),
    ),
};

/** A claim on the rank correlation of local error and added loss, over the values of one field for each value of the other. */
function correlation(name: string, statement: string, fixed: 'bits' | 'method', holds: (correlation: number) => boolean): ExperimentClaim {
  const values: Readonly<Record<typeof fixed, readonly (string | number)[]>> = { bits: widths, method: methods };
  const varied = fixed === 'bits' ? 'method' : 'bits';
  return {
    name,
    statement,
    check: (rows) =>
      valuesOf(rows, 'model').flatMap((model) =>
        values[fixed].flatMap((value) => {
          const found = meansOf(
            rows,
            values[varied].map((other) => ({ model, [fixed]: value, [varied]: other })),
          );
          if (!found) return [];
          const rank = rankCorrelation(found[0], found[1]);
          const subject = fixed === 'bits' ? `${value} bits, over methods` : `${value}, over bits`;
          return [{ subject: `${String(model)}, ${subject}`, holds: holds(rank), evidence: `Spearman ${show(rank)}` }];
        }),
      ),
  };
}

export const misalign: StudyExperiment = {
  name: 'misalign',
  title: 'Error of the layers against added loss, by method and bits',
  description:
    'Codes of 2, 3 and 4 bits in groups of 32. The local error is the mean over the Linears of the relative squared error of their outputs, on inputs from the dense model and on held-out text: what RTN, GPTQ and decoupleQ lower one after the other. The loss is that of the whole model. ' +
    'For one method both fall together as bits rise; at one width of codes, methods that train the model leave the line: their layers are as wrong as rounded ones while the model is better.',
  source: 'arXiv 2410.14570, local error against loss',
  ...studyProtocol,
  arms,
  evaluators: ['text', 'layer-error'],
  async study({ outcome, dense, quantized, backend }) {
    const distance = distanceOf(await pointOf(dense, backend), await pointOf(quantized, backend));
    return [{ ...outcome.arm.parameters, ...outcome.scores, distance }];
  },
  table: { rows: ['model', 'bits', 'method'], values: ['layer-error', 'loss-gap', 'kl', 'distance'] },
  figure: panels(
    {
      mark: { type: 'point', filled: true, size: 60, opacity: 0.8 },
      encoding: {
        x: { field: 'layer-error', type: 'quantitative', title: 'relative squared error of layers, mean', scale: logarithmic },
        y: { field: 'loss-gap', type: 'quantitative', ...lossAxis },
        color: { field: 'method', type: 'nominal', title: 'method', sort: methods },
        shape: { field: 'bits', type: 'nominal', title: 'bits' },
      },
    },
    { independent: ['x', 'y'], height: 320 },
  ),
  claims: [
    misaligned,
    correlation(
      'Q2-methods',
      'At equal bits, the order of the methods by local error is not their order by added loss',
      'bits',
      (rank) => rank < 1,
    ),
    correlation('Q2-bits', 'For one method, the order of bits by local error is their order by added loss', 'method', (rank) => rank === 1),
  ],
};
