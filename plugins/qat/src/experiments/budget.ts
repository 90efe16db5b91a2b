// How much text training needs, by what it minimises.
import type { ExperimentRow, RecipeExperiment, StepReference } from '@lowbit/core';
import { ascends, type Comparison, claimOn, difference, logarithmic, means, panels, type Sample } from '@lowbit/core/experiments';
import type { QatInput } from '../options.js';
import { arm, codesStep, decoupleqStep, gptqStep, inGroups, protocol, straightThroughStep, WINDOW } from './arms.js';
import { ascending } from './claims.js';

const GPTQ = 'GPTQ';
const DECOUPLEQ = 'decoupleQ';
const TEXT = 'QAT, cross-entropy';
const ANSWERS = 'QAT, KL';
const BOTH = 'decoupleQ + QAT, KL';

/** 8, 33 and 131 thousand tokens. */
const amounts = [32, 128, 512];

const HOLD_OUT = 0.125;

/** One pass over what is trained on of the largest amount; the smaller ones are seen again. */
const TOKENS = (1 - HOLD_OUT) * amounts[2] * WINDOW;

const format = inGroups(2);

function stepsOf(windows: number): Readonly<Record<string, readonly StepReference[]>> {
  const course: QatInput = { epochs: amounts[2] / windows, maxTokens: TOKENS, holdOut: HOLD_OUT };
  return {
    [GPTQ]: [gptqStep(format)],
    [DECOUPLEQ]: [decoupleqStep(format)],
    [TEXT]: [straightThroughStep(format, { objective: 'ce', ...course })],
    [ANSWERS]: [straightThroughStep(format, course)],
    [BOTH]: [decoupleqStep(format), codesStep(format.bits, course)],
  };
}

const arms = amounts.flatMap((windows) =>
  Object.entries(stepsOf(windows)).map(([method, recipe]) => arm(recipe, { method, windows }, { calibrationWindows: windows })),
);

function at(windows: number, ...methods: readonly string[]): Record<string, ExperimentRow> {
  return Object.fromEntries(methods.map((method) => [`${method}, ${windows} windows`, { method, windows }]));
}

const [least, , most] = amounts;

/** What cross-entropy adds over KL: with most text, with least. */
function advantages([text, answers, moreText, moreAnswers]: readonly Sample[]): Sample[] {
  return [difference(moreText, moreAnswers), difference(text, answers)];
}

const shrinking: Comparison = {
  subject: '2 bits',
  arms: { ...at(least, TEXT, ANSWERS), ...at(most, TEXT, ANSWERS) },
  holds: (gaps) => ascends(advantages(gaps)),
  figures: (gaps) => {
    const [withMost, withLeast] = advantages(gaps);
    return { [`cross-entropy less KL with ${least} windows`]: withLeast, [`with ${most}`]: withMost };
  },
};

export const budget: RecipeExperiment = {
  name: 'budget',
  title: 'Amount of text against added loss, by method and objective, at 2 bits',
  description:
    'Codes of 2 bits in groups of 32, calibrated or trained on 32, 128 and 512 windows of 256 tokens. Every training takes as many steps, so that the smaller amounts are seen 16 and 4 times; the state that is best on an eighth of the windows, held out, is kept, the start among them. ' +
    'QAT starts from rounding, with grids that are recomputed at every step: on the next token of the text, or towards the answers of the dense model, which say more about every position than one token does. Look for cross-entropy that learns the text by heart where there is little of it, and for ' +
    'decoupleQ, which the paper does not compare: a local method that fits scales and offsets together with codes can be ahead of a short training.',
  source: 'arXiv 2410.14570, PTQ and QAFT on equal data; arXiv 2402.10631, distillation',
  ...protocol,
  models: ['tiny'],
  arms,
  table: { rows: ['model', 'method'], columns: 'windows', values: ['loss-gap', 'kl'] },
  figure: panels(
    means('y', 'line', {
      x: {
        field: 'windows',
        type: 'quantitative',
        title: 'windows of 256 tokens',
        scale: { ...logarithmic, base: 2 },
        axis: { values: amounts },
      },
      y: { field: 'loss-gap', title: 'added loss, nats per token', scale: logarithmic },
      color: { field: 'method', title: 'method', sort: [GPTQ, DECOUPLEQ, TEXT, ANSWERS, BOTH] },
    }),
    { independent: ['y'] },
  ),
  claims: [
    claimOn(
      'Q5-small',
      'With the least text, training towards the answers of the dense model adds less loss than training on the next token, in every seed',
      [ascending(`2 bits, ${least} windows`, at(least, ANSWERS, TEXT))],
    ),
    claimOn('Q5-shrinks', 'The advantage of KL over cross-entropy is smaller with the most text than with the least, in every seed', [
      shrinking,
    ]),
    claimOn(
      'Q7',
      'With the least text decoupleQ adds less loss than training from rounding, in every seed: what the paper finds against GPTQ does not hold against every local method',
      [ascending(`2 bits, ${least} windows`, at(least, DECOUPLEQ, ANSWERS))],
    ),
    claimOn(
      'Q7-both',
      'Training from decoupleQ adds less loss than decoupleQ and than training from rounding, with every amount and in every seed',
      amounts.flatMap((windows) => [DECOUPLEQ, ANSWERS].map((other) => ascending(`2 bits, ${windows} windows`, at(windows, BOTH, other)))),
    ),
  ],
};
