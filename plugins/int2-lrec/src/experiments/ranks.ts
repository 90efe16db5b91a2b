// Size of the adapters, in percent of the checkpoint.
import type { ClaimVerdict, ExperimentClaim, RecipeExperiment } from '@lowbit/core';
import { logarithmic, means, panels, samplesOf, showSample, valuesOf } from '@lowbit/core/experiments';
import { arm, closedFormStep, gptqStep, lrecStep, protocol } from './arms.js';

const percents = [1, 2, 4, 8];

/** Field of the rows. */
const SIZE = 'overhead in %';

const trained = 'LREC';
const closedForm = 'qera-exact';

const corrections = [
  { correction: closedForm, stepOf: (overhead: number) => closedFormStep('qera-exact', overhead) },
  { correction: trained, stepOf: (overhead: number) => lrecStep({ overhead }) },
];

const monotone: ExperimentClaim = {
  name: 'A4',
  statement: 'With larger adapters, the KL that LREC leaves does not rise by more than its deviation between seeds',
  check: (rows) =>
    valuesOf(rows, 'model').flatMap((model): ClaimVerdict[] => {
      const samples = samplesOf(
        rows,
        percents.map((overhead) => ({ model, correction: trained, [SIZE]: overhead })),
        'kl',
      );
      if (!samples) return [];
      const isFalling = samples.slice(1).every((larger, i) => {
        const smaller = samples[i];
        return larger.mean <= smaller.mean + Math.max(smaller.deviation, larger.deviation);
      });
      return [
        {
          subject: `${model}, 2 bits`,
          holds: isFalling,
          evidence: samples.map((sample, i) => `${showSample(sample)} at ${percents[i]} %`).join('; '),
        },
      ];
    }),
};

export const ranks: RecipeExperiment = {
  name: 'ranks',
  title: 'Size of the adapters against KL, at 2 bits',
  description:
    'Adapters of 1, 2, 4 and 8 % of the checkpoint on GPTQ codes in groups of 32: trained with LREC for the same number of tokens (at rates that fall with the root of the size), and the best closed form without training. Overhead is matched in percent and not in rank, because the same rank ' +
    'costs a narrow model far more than a wide one. RILQ reports that rank hardly matters at 2 bits once adapters are trained towards the model as a whole; look whether the curve is flat here.',
  source: 'arXiv 2306.08162 (adapters of rank 32); the sweep of ranks is that of RILQ, arXiv 2412.01129',
  ...protocol,
  arms: percents.flatMap((percent) =>
    corrections.map(({ correction, stepOf }) => arm([gptqStep(2), stepOf(percent / 100)], { correction, [SIZE]: percent })),
  ),
  table: { rows: ['model', 'correction', SIZE], values: ['kl', 'loss-gap', 'perplexity', 'bitsPerWeight'] },
  figure: panels(
    means('y', 'line', {
      x: {
        field: SIZE,
        type: 'quantitative',
        title: 'adapters, % of the checkpoint',
        scale: { ...logarithmic, base: 2 },
        axis: { values: percents },
      },
      y: { field: 'kl', title: 'KL, nats per token', scale: logarithmic },
      color: { field: 'correction', title: 'correction' },
    }),
    { independent: ['y'] },
  ),
  claims: [monotone],
};
