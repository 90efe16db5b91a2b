// How much of what 2 bits cost a longer training brings back.
import type { ArmOutcome, ClaimVerdict, ExperimentClaim, ExperimentRow, RecipeExperiment } from '@lowbit/core';
import { combine, means, numberOf, panels, type Sample, samplesOf, show, showSample, valuesOf } from '@lowbit/core/experiments';
import { arm, closedFormStep, lrecStep, protocol } from './arms.js';

/** Of the checkpoint, at most. */
const OVERHEAD = 0.06;

/** That LREC may see, repeated ones counted. */
const TOKENS = 2_000_000;

/** Fields of the rows. */
const SIZE = 'overhead in %';
const SEEN = 'tokens';

const codes = { method: 'gptq', options: { bits: 2, groupSize: 32 } };
const closedForm = closedFormStep('qera-exact', OVERHEAD);
const names = { gptq: 'GPTQ', closedForm: 'GPTQ + qera-exact', lrec: 'GPTQ + qera-exact + LREC' } as const;

const arms = [
  arm([codes], { correction: names.gptq }),
  arm([codes, closedForm], { correction: names.closedForm }),
  arm([codes, closedForm, lrecStep({ overhead: OVERHEAD, epochs: 3, learningRate: 1e-3, holdOut: 0.02, maxTokens: TOKENS })], {
    correction: names.lrec,
  }),
];

/** With what the training says of itself. */
function rowsOf({ arm: { parameters }, scores, logs }: ArmOutcome): ExperimentRow[] {
  const training = logs.find(({ record }) => record['tokensPerSecond'] !== undefined)?.record;
  const told = training && { [SEEN]: numberOf(training['tokens']), [SIZE]: 100 * numberOf(training['overhead']) };
  return [{ ...parameters, ...scores, ...told }];
}

/** One verdict for each model that has all arms. */
function verdicts(
  rows: readonly ExperimentRow[],
  judge: (kl: readonly Sample[], model: ExperimentRow) => Omit<ClaimVerdict, 'subject'>,
): ClaimVerdict[] {
  return valuesOf(rows, 'model').flatMap((model) => {
    const kl = samplesOf(
      rows,
      Object.values(names).map((correction) => ({ model, correction })),
      'kl',
    );
    return kl ? [{ subject: `${String(model)}, 2 bits`, ...judge(kl, { model, correction: names.lrec }) }] : [];
  });
}

const every = ({ bySeed }: Sample, holds: (value: number) => boolean): boolean => [...bySeed.values()].every(holds);

/** Of the KL of GPTQ alone. */
const SHARE = 0.6;

const enough: ExperimentClaim = {
  name: 'recovery',
  statement: `In every seed, adapters of at most ${100 * OVERHEAD} % of the checkpoint that LREC has trained on at most ${TOKENS / 1e6} million tokens remove at least ${100 * SHARE} % of the KL that GPTQ leaves`,
  check: (rows) =>
    verdicts(rows, ([gptq, , lrec], where) => {
      const removed = combine((before, after) => 1 - after / before, gptq, lrec);
      const [[size], [seen]] = [SIZE, SEEN].map((field) => samplesOf(rows, [where], field) as Sample[]);
      return {
        holds: every(removed, (share) => share >= SHARE) && every(size, (x) => x <= 100 * OVERHEAD) && every(seen, (x) => x <= TOKENS),
        evidence: `${showSample(gptq)} before, ${showSample(lrec)} after: a share of ${showSample(removed)} removed with ${show(size.mean)} % and ${show(seen.mean / 1e6)} million tokens`,
      };
    }),
};

const margin: ExperimentClaim = {
  name: 'margin',
  statement: 'In every seed, LREC removes more than twice the KL that its start removes, which is the best closed form',
  check: (rows) =>
    verdicts(rows, (kl) => {
      const [gptq, closed, lrec] = kl;
      const times = combine((before, form, after) => (before - after) / (before - form), gptq, closed, lrec);
      // Where the closed form gains nothing, anything is more.
      const isWide = every(
        combine((before, form, after) => before - after - 2 * Math.max(0, before - form), gptq, closed, lrec),
        (x) => x > 0,
      );
      const found = Object.values(names).map((name, i) => `${name} ${showSample(kl[i])}`);
      return { holds: isWide, evidence: `${found.join('; ')}: ${showSample(times)} times as much` };
    }),
};

export const recovery: RecipeExperiment = {
  name: 'recovery',
  title: 'What 2 bits cost, and how much of it LREC brings back with a million tokens',
  description:
    'GPTQ codes of 2 bits in groups of 32 with the ranges that GPTQ chooses by default; on them the best closed form with adapters of at most 6 % of the checkpoint, and the same adapters trained on by LREC: three passes over 1536 windows, 1.2 million tokens, ' +
    'two windows a step. All arms see the same windows, which the dense model writes first. It takes long: on two cores eight minutes to write the text, and twenty-five to train.',
  source: 'arXiv 2306.08162: LREC makes INT2 usable; closed form of arXiv 2410.06040',
  ...protocol,
  models: ['stories15M'],
  seeds: [0],
  calibrationWindows: 1536,
  arms,
  rowsOf,
  table: { rows: ['model', 'correction'], values: ['kl', 'loss-gap', 'perplexity', 'bitsPerWeight', SIZE, SEEN] },
  figure: panels(
    means('x', 'point', {
      x: { field: 'kl', title: 'KL, nats per token', scale: { zero: true } },
      y: { field: 'correction', type: 'nominal', title: null, sort: Object.values(names), axis: { labelLimit: 260 } },
    }),
    { independent: ['x'], height: 120 },
  ),
  claims: [enough, margin],
};
