// Where training starts: which codes, and which weights behind them.
import type { ExperimentRow, RecipeExperiment, StepReference } from '@lowbit/core';
import { ascends, type Comparison, claimOn, difference, type Sample } from '@lowbit/core/experiments';
import type { QatInput } from '../options.js';
import { arm, codesStep, decoupleqStep, gptqStep, inGroups, protocol, qatStep, rtnStep, scalesStep } from './arms.js';
import { ascending } from './claims.js';
import { gapDots } from './figure.js';

const format = inGroups(2);

/** From worst to best. The ranges of GPTQ are those that it finds, so that its grids are not those of rounding. */
const starts = { RTN: rtnStep(format), GPTQ: gptqStep(format, 'mse'), decoupleQ: decoupleqStep(format) } as const satisfies Record<
  string,
  StepReference
>;

const NONE = 'none';
const SCALES = 'scales and offsets';
const DENSE = 'all, dense weights';
const DEQUANTIZED = 'all, dequantized weights';
const CODES = 'all, from the codes';

/** In two passes. */
const course: QatInput = { epochs: 2 };

const trainings: Readonly<Record<string, StepReference>> = {
  [SCALES]: scalesStep(format.bits, course),
  [DENSE]: qatStep(format.bits, { ...course, latent: 'reference' }),
  [DEQUANTIZED]: qatStep(format.bits, { ...course, latent: 'dequantized' }),
  [CODES]: codesStep(format.bits, course),
};

const arms = Object.entries(starts).flatMap(([start, step]) => [
  arm([step], { start, trained: NONE }),
  ...Object.entries(trainings).map(([trained, training]) => arm([step, training], { start, trained })),
]);

const best = ['decoupleQ', 'GPTQ', 'RTN'];

/** Of each start, from best to worst. */
function after(trained: string): Record<string, ExperimentRow> {
  return Object.fromEntries(best.map((start) => [`${trained} from ${start}`, { start, trained }]));
}

/** What the worst start adds over the best one: after training of everything, and of scales and offsets alone. */
function spreads([all, , allWorst, scales, , scalesWorst]: readonly Sample[]): Sample[] {
  return [difference(allWorst, all), difference(scalesWorst, scales)];
}

const narrowing: Comparison = {
  subject: '2 bits',
  arms: { ...after(DENSE), ...after(SCALES) },
  holds: (gaps) => ascends(spreads(gaps)),
  figures(gaps) {
    const [all, scales] = spreads(gaps);
    return { 'from RTN less from decoupleQ, all trained': all, 'scales and offsets alone': scales };
  },
};

export const init: RecipeExperiment = {
  name: 'init',
  title: 'Where training starts: codes of RTN, GPTQ and decoupleQ, dense or dequantized weights; 2 bits',
  description:
    'Codes of 2 bits in groups of 32. Trained towards the answers of the dense model for two passes: scales and offsets alone, with the codes of the start; or weights, scales and offsets, where the weights behind the codes begin as those of the dense model, as these moved to where they round to the codes (at a fifth of the rate), or as those that the codes stand for. ' +
    'Scales alone cannot undo bad codes, so the start decides; weights can. Dequantized weights begin in the middle of their steps and must move half a step before a code changes.',
  source: 'arXiv 2407.11062 (training of scales); arXiv 2601.14888 (starts from PTQ)',
  ...protocol,
  arms,
  table: { rows: ['model', 'start'], columns: 'trained', values: ['loss-gap', 'kl'] },
  figure: gapDots('trained', [NONE, SCALES, DEQUANTIZED, DENSE, CODES], {
    color: { field: 'start', title: 'start', sort: best.toReversed() },
  }),
  claims: [
    claimOn(
      'Q6-scales',
      'The better the start, the better the result of training scales and offsets alone: decoupleQ < GPTQ < RTN, in every seed',
      [ascending('2 bits', after(SCALES))],
    ),
    claimOn(
      'Q6-all',
      'When weights are trained too, the start matters less: the distance from RTN to decoupleQ is smaller, in every seed',
      [narrowing],
    ),
    claimOn(
      'Q6-latent',
      'Weights that begin as the dense ones end with less loss than weights that begin as the dequantized ones, in every seed',
      best.map((start) =>
        ascending(`2 bits, from ${start}`, { [DENSE]: { start, trained: DENSE }, [DEQUANTIZED]: { start, trained: DEQUANTIZED } }),
      ),
    ),
  ],
};
