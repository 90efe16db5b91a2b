// Which directions stay in full precision, and what is done to the others.
import type { ExperimentRow, RecipeExperiment, StepReference } from '@lowbit/core';
import { ascends, type Comparison, claimOn } from '@lowbit/core/experiments';
import type { QuadInput } from '../options.js';
import { arm, type Format, formats, protocol, quadStep, RANK, rotateStep, weightStep } from './arms.js';
import { gapDots } from './figure.js';

const QUAD = 'largest directions';
const ROTATED = 'none (QuaRot)';

/** Options of `quad` by the name of the variant, in the order of the figure. */
const changes: Readonly<Record<string, QuadInput>> = {
  [QUAD]: {},
  'largest, of the normalized stream': { gram: 'post' },
  'largest, compact layout': { layout: 'compact' },
  'loudest channels': { basis: 'channels' },
  'random directions': { basis: 'random' },
  'smallest directions': { basis: 'bottom' },
  'largest, no rotation of the rest': { rotation: 'none' },
};

const variants: Readonly<Record<string, (format: Format) => StepReference>> = {
  ...Object.fromEntries(Object.entries(changes).map(([name, options]) => [name, (format: Format) => quadStep(format, options)])),
  [ROTATED]: (format) => rotateStep(format),
};

const formatsTried = ['W4A4', 'W3A3'] as const;

/** In this order in every seed; what is `free` may stand anywhere. */
function order(format: (typeof formatsTried)[number], ascending: readonly string[], free: readonly string[] = []): Comparison {
  return {
    subject: `${format}, GPTQ`,
    arms: Object.fromEntries([...ascending, ...free].map((directions): [string, ExperimentRow] => [directions, { format, directions }])),
    holds: (gaps) => ascends(gaps.slice(0, ascending.length)),
  };
}

export const basis: RecipeExperiment = {
  name: 'basis',
  title: 'Which directions stay in full precision, and the rotation of the rest',
  description:
    `${RANK} directions of the residual stream in full precision: those of most energy over all layers (QUAD), of the stream before or after normalization; the loudest channels, as QUIK keeps them; random ones; those of least energy. Also the other layout, which equals the first but ` +
    'for the width that is rotated, and the first without rotating what is left. W4A4 and W3A3, weights by GPTQ. Look for full-precision columns that help only where they hold the energy: the smallest directions should be worth no more than ' +
    'none, and the largest need the rotation beside them.',
  source: 'arXiv 2503.19353, activation decomposition; channels as in arXiv 2310.09259',
  ...protocol,
  arms: formatsTried.flatMap((format) =>
    Object.entries(variants).map(([directions, stepOf]) =>
      arm([stepOf(formats[format]), weightStep('gptq', formats[format])], { format, directions }),
    ),
  ),
  table: { rows: ['model', 'directions'], columns: 'format', values: ['perplexity', 'loss-gap', 'kl'] },
  figure: gapDots('directions', Object.keys(variants), { field: 'format', sort: formatsTried }),
  claims: [
    claimOn(
      'C6',
      'The largest directions add less loss than random ones, and random ones less than the smallest, in every seed; the loudest channels are expected between the first two, and the smallest directions to be worth no more than none',
      formatsTried.map((format) => order(format, [QUAD, 'random directions', 'smallest directions'], ['loudest channels', ROTATED])),
    ),
    // At W4A4 what rotating the rest is worth is less than what seeds differ by, on models as narrow as these.
    claimOn('C7', 'What is left has to be rotated: without that QUAD adds more loss at W3A3, in every seed', [
      order('W3A3', [QUAD, 'largest, no rotation of the rest']),
    ]),
  ],
};
