// What adapters are trained to minimise.
import type { ClaimVerdict, ExperimentClaim, RecipeExperiment } from '@lowbit/core';
import { means, panels, type Specification, samplesOf, showSample, valuesOf } from '@lowbit/core/experiments';
import type { LrecInput } from '../lrec/options.js';
import { arm, gptqStep, lrecStep, protocol } from './arms.js';

const divergence = 'KL';
const both = 'KL + 0.05 cross-entropy';

/** Objectives by the name of their arm, in the order of the figure. */
const objectives: Readonly<Record<string, LrecInput>> = {
  [divergence]: { lambdaCe: 0 },
  [both]: { lambdaCe: 0.05 },
  'cross-entropy': { legacyWeights: { kl: 0, ce: 1 } },
  'hidden states + cross-entropy': { objective: 'hidden' },
};

const trade: ExperimentClaim = {
  name: 'trade',
  statement: 'Expected, not required: beside the KL alone, a share of cross-entropy lowers the loss on other text and raises the KL',
  check: (rows) =>
    valuesOf(rows, 'model').flatMap((model): ClaimVerdict[] => {
      const settings = [divergence, both].map((loss) => ({ model, loss }));
      const [kl, gap] = (['kl', 'loss-gap'] as const).map((field) => samplesOf(rows, settings, field));
      if (!kl || !gap) return [];
      return [
        {
          subject: `${model}, 2 bits`,
          holds: gap[1].mean < gap[0].mean && kl[1].mean > kl[0].mean,
          evidence: settings.map(({ loss }, i) => `${loss}: KL ${showSample(kl[i])}, added loss ${showSample(gap[i])}`).join('; '),
        },
      ];
    }),
};

const measures = ['kl', 'loss-gap'];

/** Several measures as rows of panels: each a line of dots, one for each value of `field`. */
function dotPanels(measures: readonly string[], field: string, order: readonly string[]): Specification {
  const dots = means('x', 'point', {
    x: { field: 'value', title: null, scale: { zero: false, padding: 12 } },
    y: { field, type: 'nominal', title: null, sort: order, axis: { labelLimit: 260 } },
  });
  return {
    transform: [{ fold: measures, as: ['measure', 'value'] }, { filter: 'isValid(datum.value)' }],
    ...panels(dots, { row: { field: 'measure', sort: measures }, independent: ['x'], height: 150 }),
  };
}

export const losses: RecipeExperiment = {
  name: 'losses',
  title: 'What the adapters are trained to minimise, at 2 bits',
  description:
    'Adapters of 5 % of the checkpoint on GPTQ codes in groups of 32, trained for the same number of tokens at the same rate towards: the KL divergence to the dense model alone, with a share of cross-entropy as in the paper, cross-entropy alone ' +
    '(ordinary fine-tuning), and half the square error of the last hidden state with half the cross-entropy (RILQ). The last state is kept, whatever its KL. Error correction is judged by KL: a model that is merely fine-tuned moves ' +
    'away from the dense one.',
  source: 'arXiv 2306.08162, the distillation loss; arXiv 2412.01129, the loss of hidden states',
  ...protocol,
  arms: Object.entries(objectives).map(([loss, changes]) => arm([gptqStep(2), lrecStep({ keepBest: false, ...changes })], { loss })),
  table: { rows: ['model', 'loss'], values: [...measures, 'perplexity'] },
  figure: dotPanels(measures, 'loss', Object.keys(objectives)),
  claims: [trade],
};
