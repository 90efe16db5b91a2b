// How codes stay whole: by the rounding of a step and its size.
import type { ExperimentArm, ExperimentRow, RecipeExperiment } from '@lowbit/core';
import { logarithmic, means, numberOf, panels, type Sample, show } from '@lowbit/core/experiments';
import { arm, type BaseName, bases, codeRules, NEEDS_TEXT, protocol, quzoStep, type RuleName, rowsOf, tiny } from './arms.js';
import { type Comparison, claimOn, isBelow, power } from './claims.js';

/** Times the rate of the other experiments. */
const rates = [0.1, 0.3, 1, 3];
const names = Object.keys(bases) as BaseName[];
const rules = Object.keys(codeRules) as RuleName[];

const arms: readonly ExperimentArm[] = names.flatMap((base) => [
  arm([bases[base]], { base, rounding: 'untrained', rate: 0 }),
  ...rules.flatMap((rounding) =>
    rates.map((rate) =>
      arm([bases[base], quzoStep({ ...tiny.codes[base], ...codeRules[rounding], learningRate: rate * tiny.codes[base].learningRate })], {
        base,
        rounding,
        rate,
      }),
    ),
  ),
]);

function at(base: BaseName, rounding: RuleName): Record<string, ExperimentRow> {
  return Object.fromEntries(rates.map((rate) => [`${rounding} at ${rate}`, { base, rounding, rate }]));
}

/** The rate that is best on average. */
function best(gaps: readonly Sample[]): Sample {
  return gaps.reduce((least, gap) => (gap.mean < least.mean ? gap : least));
}

/** Each at its own best rate. */
function beats(base: BaseName, first: RuleName, second: RuleName): Comparison {
  const split = (gaps: readonly Sample[]): [Sample, Sample] => [best(gaps.slice(0, rates.length)), best(gaps.slice(rates.length))];
  return {
    subject: base,
    arms: { ...at(base, first), ...at(base, second) },
    holds: (gaps) => isBelow(...split(gaps)),
    detail: (gaps) => `at the best rates ${power(...split(gaps))}`,
  };
}

function freezes(base: BaseName, rate: number): Comparison {
  const compared = ['nearest', 'stochastic rounding', 'error feedback'] as const;
  return {
    subject: `${base}, rate ${rate}`,
    arms: Object.fromEntries(compared.map((rounding): [string, ExperimentRow] => [rounding, { base, rounding, rate }])),
    holds: (_, [nearest, ...others]) =>
      nearest.mean === 0 && nearest.deviation === 0 && others.every(({ bySeed }) => [...bySeed.values()].every((share) => share > 0)),
    detail: (_, changed) => `codes changed a step: ${changed.map(({ mean }) => show(numberOf(mean))).join(', ')}`,
  };
}

export const rounding: RecipeExperiment = {
  name: 'rounding',
  title: 'Rounding of steps on codes: error feedback, stochastic, to nearest',
  description:
    'A step of the learning rate times the estimate is a fraction of a code. Error feedback carries what rounding leaves to the next step, stochastic rounding is right on average and adds noise of up to a quarter of a code squared, and rounding to nearest drops every step below half a code. ' +
    `All three with rates from a tenth to three times that of the other experiments, and the published rule. Rates are ${tiny.codes.INT8.learningRate} times that factor for 8 bits, ${tiny.codes.INT4.learningRate} times for 4. ${NEEDS_TEXT}`,
  source: 'arXiv 2502.12346, ablation of rounding; error feedback as in quantized evolution strategies',
  ...protocol,
  models: ['tiny'],
  arms,
  rowsOf,
  table: { rows: ['model', 'base', 'rounding'], columns: 'rate', values: ['loss-gap', 'changed'] },
  figure: {
    ...panels(
      means('y', 'line', {
        x: { field: 'rate', type: 'quantitative', title: 'learning rate, relative', scale: logarithmic },
        y: { field: 'loss-gap', title: 'added loss, nats per token', scale: { zero: false } },
        color: { field: 'rounding', title: 'rounding', sort: rules },
      }),
      { row: { field: 'base' }, independent: ['y'] },
    ),
    transform: [{ filter: 'datum.rate > 0' }],
  },
  claims: [
    claimOn('B3', 'Rounding to nearest changes no code at steps below half a code, at which stochastic rounding and error feedback do', [
      freezes('INT8', 0.1),
      freezes('INT4', 0.3),
      freezes('INT4', 1),
    ]),
    claimOn(
      'feedback',
      'Each at its best rate, error feedback learns significantly more than stochastic rounding',
      names.map((base) => beats(base, 'error feedback', 'stochastic rounding')),
    ),
  ],
};
