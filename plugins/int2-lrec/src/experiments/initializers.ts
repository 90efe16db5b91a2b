// Corrections in closed form against one another, and against training.
import type { ClaimVerdict, ExperimentArm, ExperimentClaim, ExperimentRow, RecipeExperiment } from '@lowbit/core';
import { arm, closedFormStep, closedForms, gptqStep, lrecStep, protocol } from './arms.js';
import { logarithmic, means, panels } from './figure.js';
import { ascends, combine, type Sample, samplesOf, show, showSample, valuesOf } from './samples.js';

const NONE = 'none';

/** Trained at 2 bits alone, where closed forms leave most. */
const trained = {
  rilq: [lrecStep({ preset: 'rilq' })],
  'LREC from zero': [lrecStep()],
  'LREC from qera-exact': [closedFormStep('qera-exact'), lrecStep()],
};

const arms: ExperimentArm[] = [2, 3, 4].flatMap((bits) => {
  const base = gptqStep(bits);
  return [
    arm([base], { bits, correction: NONE }),
    ...closedForms.map((form) => arm([base, closedFormStep(form)], { bits, correction: form })),
    ...(bits === 2 ? Object.entries(trained).map(([correction, steps]) => arm([base, ...steps], { bits, correction })) : []),
  ];
});

const ERROR = 'layer-error';

/** One verdict for each model and number of bits that has all of some corrections. */
function verdicts(
  rows: readonly ExperimentRow[],
  corrections: readonly string[],
  judge: (errors: readonly Sample[]) => Omit<ClaimVerdict, 'subject'>,
): ClaimVerdict[] {
  return valuesOf(rows, 'model').flatMap((model) =>
    valuesOf(rows, 'bits').flatMap((bits) => {
      const errors = samplesOf(
        rows,
        corrections.map((correction) => ({ model, bits, correction })),
        ERROR,
      );
      return errors ? [{ subject: `${model}, ${bits} bits`, ...judge(errors) }] : [];
    }),
  );
}

/** The two heuristics differ by no more than this share of either. */
const ALIKE = 0.05;

const chain: ExperimentClaim = {
  name: 'A3',
  statement: `In every seed, the error of the Linears' outputs on held-out text has the order qera-exact < qera-approx and l2qer < svd < none, and qera-approx and l2qer differ by at most ${100 * ALIKE} %`,
  check: (rows) =>
    verdicts(rows, ['qera-exact', 'qera-approx', 'l2qer', 'svd', NONE], (errors) => {
      const [exact, approximate, heuristic, svd, none] = errors;
      const ratio = combine((a, b) => a / b, heuristic, approximate);
      const isAlike = [...ratio.bySeed.values()].every((value) => Math.max(value, 1 / value) <= 1 + ALIKE);
      return {
        holds: ascends([exact, approximate, svd, none]) && ascends([exact, heuristic, svd]) && isAlike,
        evidence:
          ['qera-exact', 'qera-approx', 'l2qer', 'svd', NONE].map((name, i) => `${name} ${showSample(errors[i])}`).join('; ') +
          `; l2qer over qera-approx ${show(ratio.mean)}`,
      };
    }),
};

/** Of the error. Two names of one minimum; each is found by an iteration from a start of its own. */
const SAME = 0.01;

const sameMinimum: ExperimentClaim = {
  name: 'A3-eora',
  statement: `eora and qera-exact have the same minimum: in every seed their errors differ by at most ${100 * SAME} %`,
  check: (rows) =>
    verdicts(rows, ['eora', 'qera-exact'], ([eora, exact]) => {
      const ratio = combine((a, b) => a / b, eora, exact);
      return {
        holds: [...ratio.bySeed.values()].every((value) => Math.abs(value - 1) <= SAME),
        evidence: `eora ${showSample(eora)}; qera-exact ${showSample(exact)}`,
      };
    }),
};

export const initializers: RecipeExperiment = {
  name: 'initializers',
  title: 'Low-rank corrections in closed form, and training from them',
  description:
    "GPTQ codes in groups of 32 at 2, 3 and 4 bits, and adapters of 5 % of the checkpoint in closed form: the best of their rank for the error of the weight (svd), for that of the layer's output with one number an input (l2qer, qera-approx) or " +
    "the whole second moment of the inputs (qera-exact, eora). loftq and pissa own the rounding: they round anew, to nearest, what the adapter leaves over, so GPTQ's error feedback is lost. At 2 bits also trained: RILQ's objective and " +
    'preset, LREC from zero, LREC from qera-exact. Layer error is the mean relative error of the Linears on held-out text. Look at the order of the closed forms, and at how much further training goes than any of them.',
  source:
    'ablation of initialisers in the manner of arXiv 2306.08162, with forms of arXiv 2303.08302 (svd), 2402.02446 (l2qer), 2410.06040 (qera), 2410.21271 (eora), 2310.08659 (loftq), 2404.02948 (pissa), 2412.01129 (rilq)',
  ...protocol,
  evaluators: ['text', 'layer-error'],
  arms,
  table: { rows: ['model', 'bits', 'correction'], values: [ERROR, 'kl', 'loss-gap', 'bitsPerWeight'] },
  figure: panels(
    {
      ...means('x', 'point', {
        x: { field: 'kl', title: 'KL to the dense model, nats per token', scale: logarithmic },
        y: { field: 'correction', type: 'nominal', title: null, sort: [NONE, ...closedForms, ...Object.keys(trained)] },
      }),
      height: 200,
    },
    { row: { field: 'bits', header: { labelExpr: "datum.value + ' bits'" } }, independent: ['x'] },
  ),
  claims: [chain, sameMinimum],
};
