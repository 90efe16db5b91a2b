// The recipes of presets: every method in the settings that it is compared in.
import type { StepReference } from '@lowbit/core';
import type { PlanDraft } from './plan.js';

export type DraftRecipe = PlanDraft['recipes'][number];

type Options = Readonly<Record<string, unknown>>;

/** Divides the widths of all models that have a name. */
const GROUP = 32;

/** How long what iterates and trains may take. */
export interface Budget {
  readonly decoupleq: Options;
  readonly lrec: Options;
  readonly qat: Options;
  readonly quzo: Options;
}

/** As the methods' own experiments: 128 windows seen three or four times, 800 forward passes for what has no gradients. */
export const full: Budget = {
  decoupleq: {},
  lrec: { epochs: 4, batchWindows: 2 },
  qat: { epochs: 3, batchWindows: 4, windowsAtOnce: 4, holdOut: 0.0625 },
  quzo: { steps: 400, batchWindows: 2, holdOut: 0.0625 },
};

/** Seconds a recipe on a small model. */
export const brief: Budget = {
  decoupleq: { iterations: 3, relaxationSteps: 30 },
  lrec: { epochs: 4, batchWindows: 2 },
  qat: { epochs: 4, batchWindows: 2, windowsAtOnce: 2, holdOut: 0.125 },
  // So few steps seldom gain anything: the last state is shown, better or not.
  quzo: { steps: 60, batchWindows: 2, keepBest: false, judgeEvery: 20 },
};

function step(method: string, options: Options = {}): StepReference {
  return { method, options };
}

function recipe(name: string, ...steps: readonly StepReference[]): DraftRecipe {
  return { name, steps };
}

/** Codes in groups of 32. */
function codes(method: 'rtn' | 'gptq', bits: number, more: Options = {}): StepReference {
  return step(method, { bits, groupSize: GROUP, ...more });
}

/** Layer by layer alone: training the blocks as well takes several times as long. */
function decoupled(bits: number, { decoupleq }: Budget, more: Options = {}): StepReference {
  return step('decoupleq', { bits, groupSize: GROUP, blockEpochs: 0, ...decoupleq, ...more });
}

/** Adapters of 5 % of the checkpoint. The finer the codes, the less there is to correct, and the smaller the steps. */
function corrected(bits: number, { lrec }: Budget): StepReference {
  return step('lrec', { overhead: 0.05, learningRate: 2e-3 * 2 ** (-1.5 * (bits - 2)), ...lrec });
}

/**
 * From the codes that are there, which were chosen with care. Finer codes have smaller steps from one to the next, and a scale moves codes farther
 * from zero.
 */
function trained(bits: number, { qat }: Budget, more: Options = {}): StepReference {
  return step('qat', { latent: 'codes', learningRate: 2e-4 * 2 ** (2 - bits), scaleLearningRate: 2e-3 * 4 ** (2 - bits), ...qat, ...more });
}

/** Scales, on the next token: finer codes have smaller ones, by which they are perturbed; rates go with their square. */
function walked(bits: number, { quzo }: Budget): StepReference {
  const [epsilon, learningRate] = [2.5e-4 * 2 ** (4 - bits), 6.25e-6 * 4 ** (4 - bits)];
  return step('quzo', { preset: 'qzo-int4', clip: 0, epsilon, learningRate, ...quzo });
}

/** 'gptq-2': a method alone. */
export function baseline(method: 'rtn' | 'gptq', bits: number): DraftRecipe {
  return recipe(`${method}-${bits}`, codes(method, bits));
}

export function alternation(bits: number, budget = full): DraftRecipe {
  return recipe(`decoupleq-${bits}`, decoupled(bits, budget));
}

/** GPTQ with adapters trained by their defaults. */
export function correction(bits: number): DraftRecipe {
  return recipe(`gptq-${bits}+lrec`, codes('gptq', bits), step('lrec'));
}

/** Weights alone, in groups of 32: each method on the codes that it is meant for. */
export function weightOnly(bits: number, budget: Budget): DraftRecipe[] {
  return [
    baseline('rtn', bits),
    baseline('gptq', bits),
    alternation(bits, budget),
    recipe(`gptq-${bits}+lrec`, codes('gptq', bits), corrected(bits, budget)),
    recipe(`decoupleq-${bits}+qat`, decoupled(bits, budget), trained(bits, budget)),
    recipe(`gptq-${bits}+quzo`, codes('gptq', bits), walked(bits, budget)),
  ];
}

/** Inputs of all Linears in 4 bits, one scale a token. */
const roundedInputs = step('activations', { bits: 4 });
const inputBits = { activationBits: 4, outputActivationBits: 4 };
const rotated = step('rotate', inputBits);

/** 6 % of the width of the tiny models, 4 % of that of stories15M: the published 64 of 4096 would be 3, whose gain is within noise there. */
const decomposed = step('quad', { rank: 12, ...inputBits });

/** Symmetric, one scale an output, ranges searched for the least error: as the methods that rotate are published. */
function perOutput(method: 'rtn' | 'gptq', bits = 4): StepReference {
  return step(method, { bits, groupSize: -1, symmetric: true, clip: 'mse' });
}

/** Weights and inputs of 4 bits. */
export const weightsAndInputs: readonly DraftRecipe[] = [
  recipe('rtn-w4a4', roundedInputs, perOutput('rtn')),
  recipe('gptq-w4a4', roundedInputs, perOutput('gptq')),
  recipe('rotate-w4a4', rotated, perOutput('gptq')),
  recipe('quad-w4a4', decomposed, perOutput('gptq')),
];

/** Inputs of 4 bits for the methods that are about codes and adapters. */
function onRotated(budget: Budget): DraftRecipe[] {
  return [
    recipe('rotate+decoupleq-w4a4', rotated, step('decoupleq', { bits: 4, groupSize: -1, zero: 'symmetric', blockEpochs: 0 })),
    recipe('rotate+gptq+lrec-w4a4', rotated, perOutput('gptq'), corrected(4, budget)),
    recipe('rotate+gptq+qat-w4a4', rotated, perOutput('gptq'), trained(4, budget)),
  ];
}

/** Recipes of several plugins, most of them where it is hard: at 2 bits. */
export function mixtures(budget: Budget): DraftRecipe[] {
  const attention = { targets: ['**.self_attn.*'] };
  const mlp = { targets: ['**.mlp.*'] };
  const scales = { train: 'scales', scaleLearningRate: 1e-2 };
  return [
    // Rounded codes are worth little: from dense weights, at the better of two rates.
    recipe('rtn-2+qat', codes('rtn', 2), trained(2, budget, { latent: 'reference', learningRate: [1e-3, 2e-4] })),
    recipe('rtn-2+blocks+scales', codes('rtn', 2), step('qat-blocks', blocks(budget)), trained(2, budget, scales)),
    recipe('decoupleq-2+lrec', decoupled(2, budget), corrected(2, budget)),
    recipe('decoupleq-2+scales', decoupled(2, budget), trained(2, budget, scales)),
    recipe('decoupleq-2+quzo', decoupled(2, budget), walked(2, budget)),
    recipe('gptq-2+qera+lrec', codes('gptq', 2), step('low-rank-correction', { form: 'qera-exact', overhead: 0.05 }), corrected(2, budget)),
    recipe('gptq-4 attention, decoupleq-2 mlp', codes('gptq', 4, attention), decoupled(2, budget, mlp)),
    recipe('gptq-4 attention, decoupleq-2 mlp+qat', codes('gptq', 4, attention), decoupled(2, budget, mlp), trained(2, budget, mlp)),
    recipe('rotate+decoupleq-2', step('rotate', { activationBits: 16, outputActivationBits: 16 }), decoupled(2, budget)),
    recipe(
      'quad-w4a4+tune',
      decomposed,
      perOutput('gptq'),
      step('tune', { loss: 'kd', learningRate: 3e-4, batchWindows: 4, windowsAtOnce: 4 }),
    ),
    ...onRotated(budget),
  ];
}

/** Those of `qat` that its first phase has as well. */
function blocks({ qat }: Budget): Options {
  const { windowsAtOnce: _, ...own } = qat;
  return { learningRate: 1e-3, scaleLearningRate: 2e-3, ...own };
}
