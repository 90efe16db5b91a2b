// What each way to train a low-bit model by forward passes learns of a new text.
import type { ExperimentArm, ExperimentClaim, ExperimentRow, RecipeExperiment } from '@lowbit/core';
import { means, panels, show } from '@lowbit/core/experiments';
import { arm, type BaseName, bases, codeRules, NEEDS_TEXT, PASSES, protocol, quzoStep, type Rates, rowsOf, stories, tiny } from './arms.js';
import { type Comparison, claimOn, excess, isBelow, power, seedNoise } from './claims.js';

const NONE = 'none';
const LORA = 'ZO-LoRA';
const SCALES = 'scales (QZO)';
const MEZO = 'float weights (MeZO)';
const FLOAT = 'float32';
const [FEEDBACK, STOCHASTIC, NEAREST, PUBLISHED] = Object.keys(codeRules).map((rule) => `codes, ${rule}`);

const names = Object.keys(bases) as BaseName[];

function armsOf(base: BaseName, { adapters, scales, codes }: Rates): ExperimentArm[] {
  const step = bases[base];
  return [
    arm([step], { base, training: NONE }),
    arm([step, quzoStep(adapters)], { base, training: LORA }),
    arm([step, quzoStep(scales[base])], { base, training: SCALES }),
    ...Object.entries(codeRules).map(([rule, options]) =>
      arm([step, quzoStep({ ...codes[base], ...options })], { base, training: `codes, ${rule}` }),
    ),
  ];
}

function at(base: string, ...training: readonly string[]): Record<string, ExperimentRow> {
  return Object.fromEntries(training.map((one) => [one, { base, training: one }]));
}

/** Significantly below the untrained base. */
function falls(base: BaseName, training: string): Comparison {
  return {
    subject: `${base}, ${training}`,
    arms: at(base, training, NONE),
    holds: ([trained, none]) => isBelow(trained, none),
    detail: ([trained, none]) => power(trained, none),
  };
}

function below(base: BaseName, first: string, second: string): Comparison {
  return {
    subject: base,
    arms: at(base, first, second, NONE),
    holds: ([one, other]) => isBelow(one, other),
    detail: ([one, other]) => power(one, other),
  };
}

/** INT8 codes beside float weights, on one side. `holds` is told by how much more the codes lose, and what seeds differ by. */
function besideFloats(side: string, holds: (added: number, noise: number) => boolean): Comparison {
  return {
    subject: `INT8, ${side}`,
    arms: { [FEEDBACK]: { base: 'INT8', training: FEEDBACK }, [MEZO]: { base: FLOAT, training: MEZO } },
    holds: ([codes, floats]) => holds(excess(codes, floats), seedNoise(codes, floats)),
    detail: ([codes, floats]) => `difference ${show(excess(codes, floats))}, seeds differ by ${show(seedNoise(codes, floats))}`,
  };
}

const order = [NONE, MEZO, LORA, SCALES, FEEDBACK, STOCHASTIC, NEAREST, PUBLISHED];

const claims: readonly ExperimentClaim[] = [
  claimOn(
    'B6-adapters',
    'Training adapters on frozen codes lowers the loss on held-out text significantly (paired t test, 5 %)',
    names.map((base) => falls(base, LORA)),
  ),
  claimOn(
    'B6-scales',
    'Training the scales lowers the loss on held-out text significantly (paired t test, 5 %)',
    names.map((base) => falls(base, SCALES)),
  ),
  claimOn(
    'B6-codes',
    'INT8 codes with error feedback learn as much as float32 weights, within what seeds differ by: no less, and no more',
    [
      besideFloats('no less than floats', (added, noise) => added <= noise),
      besideFloats('no more than floats', (added, noise) => -added <= noise),
    ],
  ),
  claimOn('B7', 'At 4 bits error feedback learns significantly, while rounding to nearest changes no code at the same step size', [
    {
      subject: 'INT4',
      arms: at('INT4', FEEDBACK, NEAREST, NONE),
      holds: ([feedback, nearest, none], [, changed]) =>
        isBelow(feedback, none) &&
        [...changed.bySeed.values()].every((share) => share === 0) &&
        [...nearest.bySeed].every(([seed, gap]) => gap === none.bySeed.get(seed)),
      detail: ([feedback, , none], [, changed]) => `${power(feedback, none)}; nearest changes ${show(changed.mean)} of the codes a step`,
    },
  ]),
  claimOn(
    'B7-sr',
    'Error feedback learns significantly more than stochastic rounding at the same step size',
    names.map((base) => below(base, FEEDBACK, STOCHASTIC)),
  ),
];

function adaptationOf(model: string, name: string, rates: Rates): RecipeExperiment {
  return {
    name,
    title: `Fine-tuning ${model} of few bits on a new text by forward passes alone`,
    description:
      `Codes of 8 and 4 bits in groups of 32, rounded to nearest; trained on the next token with ${PASSES} forward passes of 512 tokens an arm: adapters of rank 4 on frozen codes (ZO-LoRA), the scales of the groups (QZO), the codes themselves on their grid with error feedback, stochastic rounding ` +
      'and rounding to nearest, at one step size for all three, and by the published rule (independent roundings for loss and update, stochastic update, normal directions); dense float32 weights (MeZO) for comparison. The last state counts. Rates are those of this model. ' +
      `${NEEDS_TEXT} What the published rule does on codes is reported, not claimed.`,
    source: 'arXiv 2502.12346, comparison with first-order and zeroth-order baselines; MeZO arXiv 2305.17333',
    ...protocol,
    models: [model],
    arms: [arm([quzoStep(rates.weights)], { base: FLOAT, training: MEZO }), ...names.flatMap((base) => armsOf(base, rates))],
    rowsOf,
    table: { rows: ['model', 'training'], columns: 'base', values: ['loss-gap', 'perplexity', 'changed', 'seconds'] },
    figure: panels(
      means('x', 'point', {
        x: { field: 'loss-gap', title: 'added loss, nats per token', scale: { zero: false, padding: 12 } },
        y: { field: 'training', type: 'nominal', title: null, sort: order, axis: { labelLimit: 260 } },
        color: { field: 'base', title: 'base', sort: [FLOAT, ...names] },
      }),
      { independent: ['x'], height: 20 * order.length },
    ),
    claims,
  };
}

export const adaptation = adaptationOf('tiny', 'adaptation', tiny);

export const adaptationOfStories = adaptationOf('stories15M', 'adaptation-stories', stories);
