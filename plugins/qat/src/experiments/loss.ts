// What the training minimises.
import type { RecipeExperiment } from '@lowbit/core';
import { claimOn } from '@lowbit/core/experiments';
import type { QatInput } from '../options.js';
import { arm, codesStep, decoupleqStep, inGroups, protocol } from './arms.js';
import { ascending } from './claims.js';
import { measureDots } from './figure.js';

const TEXT = 'cross-entropy';
const ANSWERS = 'KL';

/** By the name of the arm, in the order of the figure. */
const objectives: Readonly<Record<string, QatInput>> = {
  [TEXT]: { objective: 'ce' },
  [ANSWERS]: { objective: 'kl' },
  'KL + 0.5 cross-entropy': { objective: 'kl', lambdaCe: 0.5 },
  'reverse KL': { objective: 'reverse-kl' },
  CAKLD: { objective: 'cakld' },
  'Jensen-Shannon': { objective: 'jsd' },
  'hidden states': { objective: 'hidden' },
};

const format = inGroups(2);
const measures = ['loss-gap', 'kl'];

export const loss: RecipeExperiment = {
  name: 'loss',
  title: 'What training minimises, at 2 bits from decoupleQ',
  description:
    'decoupleQ codes of 2 bits in groups of 32, then QAT of weights, scales and offsets for the same steps at the same rates, towards: the next token of the text; the answers of the dense model by KL, by the KL the other way round, by the mixture of both that the confidence of the dense model decides (CAKLD), by the Jensen-Shannon divergence; ' +
    'KL with a share of cross-entropy; the last hidden state of the dense model. The state that is best by its own objective on held-out windows is kept. Judged by the loss on other text and by KL: what learns the text moves away from the dense model.',
  source: 'arXiv 2410.14570 (cross-entropy), arXiv 2305.17888 (KL), arXiv 2402.10631 (CAKLD), arXiv 2412.01129 (hidden states)',
  ...protocol,
  arms: Object.entries(objectives).map(([objective, options]) =>
    arm([decoupleqStep(format), codesStep(format.bits, options)], { objective }),
  ),
  table: { rows: ['model', 'objective'], values: [...measures, 'perplexity', 'seconds'] },
  figure: measureDots(measures, 'objective', Object.keys(objectives)),
  claims: [
    claimOn(
      'Q5',
      'On 128 windows, training towards the answers of the dense model by KL adds less loss than training on the next token, in every seed',
      [ascending('2 bits', { [ANSWERS]: { objective: ANSWERS }, [TEXT]: { objective: TEXT } })],
    ),
  ],
};
