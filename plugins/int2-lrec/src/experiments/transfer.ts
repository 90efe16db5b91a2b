// Fine-tuning on a task from nothing, and from adapters that have corrected the error of quantizing first.
import type { ClaimVerdict, ExperimentClaim, RecipeExperiment, StepReference } from '@lowbit/core';
import { ascends, logarithmic, means, panels, samplesOf, showSample, valuesOf } from '@lowbit/core/experiments';
import { arm, emefStep, gptqStep, lrecStep, protocol } from './arms.js';

/** Passes over the windows, of LREC and of EMEF. */
const CORRECTING = 4;
const TUNING = 2;

const fromZero = 'EMEF';
const fromLrec = 'LREC, then EMEF';

/** Steps after the codes, by the name of their arm, in the order of the figure. */
const trainings: Readonly<Record<string, readonly StepReference[]>> = {
  none: [],
  [fromZero]: [emefStep({ epochs: TUNING })],
  'EMEF for the passes of both': [emefStep({ epochs: CORRECTING + TUNING })],
  LREC: [lrecStep({ epochs: CORRECTING })],
  [fromLrec]: [lrecStep({ epochs: CORRECTING }), emefStep({ epochs: TUNING })],
};

const names = Object.keys(trainings);

const better: ExperimentClaim = {
  name: 'transfer',
  statement:
    'Expected, not required: fine-tuning that starts from the adapters of LREC ends with a lower loss on held-out text than fine-tuning from zero with the same settings, in every seed',
  check: (rows) =>
    valuesOf(rows, 'model').flatMap((model): ClaimVerdict[] => {
      const settings = [fromLrec, fromZero].map((training) => ({ model, training }));
      const compared = samplesOf(rows, settings, 'loss-gap');
      if (!compared) return [];
      const evidence = names.flatMap((training) =>
        (samplesOf(rows, [{ model, training }], 'loss-gap') ?? []).map((gap) => `${training} ${showSample(gap)}`),
      );
      return [{ subject: `${model}, 2 bits, added loss`, holds: ascends(compared), evidence: evidence.join('; ') }];
    }),
};

export const transfer: RecipeExperiment = {
  name: 'transfer',
  title: 'Fine-tuning an INT2 model from zero and from the adapters of LREC',
  description:
    `GPTQ codes of 2 bits in groups of 32 and adapters of 5 % of the checkpoint, which fine-tuning (EMEF) trains on the next token of the calibration text: ${TUNING} passes from zero, or from adapters that LREC has trained on the same text for ${CORRECTING} passes. ` +
    'It goes on with the adapters that are there, so that all arms have equally many bits. An arm from zero with the passes of both tells what comes of training longer. The task is the text: another part of it judges, by the loss that is added to that of the dense model ' +
    '(below zero: better at the text than the dense model). With --text the task is one that the dense model was not trained on.',
  source: 'arXiv 2306.08162: the INT2 model that is fine-tuned on instructions starts from adapters of LREC',
  ...protocol,
  calibrationWindows: 64,
  arms: Object.entries(trainings).map(([training, steps]) => arm([gptqStep(2), ...steps], { training })),
  table: { rows: ['model', 'training'], values: ['loss-gap', 'perplexity', 'kl', 'bitsPerWeight'] },
  figure: panels(
    means('x', 'point', {
      x: { field: 'perplexity', title: 'perplexity', scale: logarithmic },
      y: { field: 'training', type: 'nominal', title: null, sort: names, axis: { labelLimit: 260 } },
    }),
    { independent: ['x'], height: 150 },
  ),
  claims: [better],
};
