// Corrections in closed form against one another, and against training.
import type { ClaimVerdict, ExperimentArm, ExperimentClaim, ExperimentRow, RecipeExperiment, StepReference } from '@lowbit/core';
import { ascends, combine, logarithmic, means, panels, type Sample, samplesOf, showSample, valuesOf } from '@lowbit/core/experiments';
import { arm, closedFormStep, gptqStep, lrecStep, protocol, rtnStep } from './arms.js';

const NONE = 'none';

/** What stands below the adapters, and which closed forms are tried there. loftq and pissa round to nearest themselves. */
const bases = [
  { codes: 'RTN', stepOf: rtnStep, forms: ['svd', 'l2qer', 'qera-approx', 'qera-exact', 'loftq', 'pissa'] },
  { codes: 'GPTQ', stepOf: gptqStep, forms: ['svd', 'l2qer', 'qera-approx', 'qera-exact', 'eora'] },
] as const;

/** Trained on GPTQ codes at 2 bits alone, where closed forms leave most. */
const trained = {
  rilq: [lrecStep({ preset: 'rilq' })],
  'LREC from zero': [lrecStep()],
  'LREC from qera-exact': [closedFormStep('qera-exact'), lrecStep()],
};

const arms: ExperimentArm[] = [2, 3, 4].flatMap((bits) =>
  bases.flatMap(({ codes, stepOf, forms }) => {
    const armOf = (correction: string, steps: readonly StepReference[] = []): ExperimentArm =>
      arm([stepOf(bits), ...steps], { bits, codes, correction });
    return [
      armOf(NONE),
      ...forms.map((form) => armOf(form, [closedFormStep(form)])),
      ...(bits === 2 && codes === 'GPTQ' ? Object.entries(trained).map(([correction, steps]) => armOf(correction, steps)) : []),
    ];
  }),
);

/** The corrections, in the order of the figure. */
const corrections = [NONE, 'svd', 'l2qer', 'qera-approx', 'qera-exact', 'eora', 'loftq', 'pissa', ...Object.keys(trained)];

const ERROR = 'layer-error';

/** One verdict for each model and number of bits that has all of some corrections of some codes. */
function verdicts(
  rows: readonly ExperimentRow[],
  codes: string,
  names: readonly string[],
  judge: (errors: readonly Sample[]) => Omit<ClaimVerdict, 'subject'>,
): ClaimVerdict[] {
  return valuesOf(rows, 'model').flatMap((model) =>
    valuesOf(rows, 'bits').flatMap((bits) => {
      const errors = samplesOf(
        rows,
        names.map((correction) => ({ model, bits, codes, correction })),
        ERROR,
      );
      return errors ? [{ subject: `${model}, ${bits} bits, ${codes} codes`, ...judge(errors) }] : [];
    }),
  );
}

/** From the best to the worst. */
const chain = ['qera-exact', 'qera-approx', 'l2qer', 'svd', NONE];

/** The two heuristics differ by no more than this share of either. */
const ALIKE = 0.05;

function alike(a: Sample, b: Sample): boolean {
  const ratio = combine((x, y) => Math.max(x / y, y / x), a, b);
  return [...ratio.bySeed.values()].every((value) => value <= 1 + ALIKE);
}

function listed(errors: readonly Sample[]): string {
  return errors.map((error, i) => `${chain[i]} ${showSample(error)}`).join('; ');
}

const onNearest: ExperimentClaim = {
  name: 'A3',
  statement: `On codes that were rounded to nearest, in every seed, the error of the Linears' outputs on held-out text has the order qera-exact < qera-approx and l2qer < svd < none, and qera-approx and l2qer differ by at most ${100 * ALIKE} %`,
  check: (rows) =>
    verdicts(rows, 'RTN', chain, (errors) => {
      const [exact, approximate, heuristic, svd, none] = errors;
      const isOrdered = ascends([exact, approximate, svd, none]) && ascends([exact, heuristic, svd]);
      return { holds: isOrdered && alike(approximate, heuristic), evidence: listed(errors) };
    }),
};

const onFeedback: ExperimentClaim = {
  name: 'A3-gptq',
  statement: `On GPTQ codes, in every seed, qera-exact < qera-approx, l2qer and svd < none, and qera-approx and l2qer differ by at most ${100 * ALIKE} %; where svd stands is open, for GPTQ has traded the errors of correlated inputs against each other, which one number an input cannot see`,
  check: (rows) =>
    verdicts(rows, 'GPTQ', chain, (errors) => {
      const [exact, approximate, heuristic, svd, none] = errors;
      const isBetween = [approximate, heuristic, svd].every((middle) => ascends([exact, middle, none]));
      return { holds: isBetween && alike(approximate, heuristic), evidence: listed(errors) };
    }),
};

/** Of the error. Two names of one minimum; each is found by an iteration from a start of its own. */
const SAME = 0.01;

const sameMinimum: ExperimentClaim = {
  name: 'A3-eora',
  statement: `eora and qera-exact have the same minimum: in every seed their errors differ by at most ${100 * SAME} %`,
  check: (rows) =>
    verdicts(rows, 'GPTQ', ['eora', 'qera-exact'], ([eora, exact]) => {
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
    "Codes in groups of 32 at 2, 3 and 4 bits, rounded to nearest or by GPTQ, and adapters of 5 % of the checkpoint in closed form: the best of their rank for the error of the weight (svd), for that of the layer's output with one number an " +
    'input (l2qer, qera-approx) or the whole second moment of the inputs (qera-exact, eora). loftq and pissa own the rounding: they round anew, to nearest, what the adapter leaves over. On GPTQ codes at 2 bits also trained: ' +
    "RILQ's objective, start and hold-out at LREC's rate, LREC from zero, LREC from qera-exact. Layer error is the mean relative error of the Linears on held-out text. Look at the order of the closed forms, and at how much further training " +
    'goes than any of them, though it does not lower the layer error.',
  source:
    'ablation of initialisers in the manner of arXiv 2306.08162, with forms of arXiv 2303.08302 (svd), 2402.02446 (l2qer), 2410.06040 (qera), 2410.21271 (eora), 2310.08659 (loftq), 2404.02948 (pissa), 2412.01129 (rilq)',
  ...protocol,
  evaluators: ['text', 'layer-error'],
  arms,
  table: { rows: ['model', 'bits', 'codes', 'correction'], values: [ERROR, 'kl', 'loss-gap', 'bitsPerWeight'] },
  figure: panels(
    means('x', 'point', {
      x: { field: 'kl', title: 'KL, nats per token', scale: logarithmic },
      y: { field: 'correction', type: 'nominal', title: null, sort: corrections, axis: { labelLimit: 260 } },
      color: { field: 'codes', title: 'codes' },
    }),
    { row: { field: 'bits', header: { labelExpr: "datum.value + ' bits'" } }, independent: ['x'], height: 200 },
  ),
  claims: [onNearest, onFeedback, sameMinimum],
};
