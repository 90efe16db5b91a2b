// A small real task, by what is trained: forward passes alone beside gradients.
import type { ExperimentArm, ExperimentClaim, ExperimentRow, RecipeExperiment, StepReference } from '@lowbit/core';
import { means, panels } from '@lowbit/core/experiments';
import type { QuzoInput } from '../options.js';
import { arm, type BaseName, bases, PASSES, quzoStep, rowsOf, tiny } from './arms.js';
import { type Comparison, claimOn, isBelow, power } from './claims.js';

const NONE = 'none (before)';
const LORA = 'ZO-LoRA';
const SCALES = 'scales (QZO)';
const CODES = 'codes, error feedback';
const GRADIENTS = 'LoRA by gradients (EMEF)';

const names = Object.keys(bases) as BaseName[];
const byForwardPasses = [LORA, SCALES, CODES];

/** Examples in a step, of which each predicts one label; judged before and after alone. */
const course: QuzoInput = { batchWindows: 32, judgeEvery: PASSES };

/** Rates beside those for plain text: the loss of a label is steeper than that of a text. Found by runs of tens of steps on 8 bits. */
const share = { adapters: 2, scales: 0.3, codes: 0.5 };

/** Adapters as large as those of ZO-LoRA. A step takes three times what a forward pass does; all examples are passed over once or twice. */
const gradients: StepReference = {
  method: 'emef',
  options: { rank: 4, alpha: 8, learningRate: 1e-3, batchWindows: 32, epochs: 2, keepBest: false },
};

function armsOf(base: BaseName): ExperimentArm[] {
  const scaled = (by: number, { learningRate, ...options }: QuzoInput & { readonly learningRate: number }): StepReference =>
    quzoStep({ ...options, ...course, learningRate: by * learningRate });
  const steps: Readonly<Record<string, StepReference | undefined>> = {
    [NONE]: undefined,
    [GRADIENTS]: gradients,
    [LORA]: scaled(share.adapters, tiny.adapters),
    [SCALES]: scaled(share.scales, tiny.scales[base]),
    [CODES]: scaled(share.codes, tiny.codes[base]),
  };
  return Object.entries(steps).map(([training, step]) => arm([bases[base], ...(step ? [step] : [])], { base, training }));
}

/** The first below the second. */
function compared(base: BaseName, field: string, first: string, second: string): Comparison {
  const at = (training: string): [string, ExperimentRow] => [training, { base, training }];
  return {
    subject: base,
    field,
    arms: Object.fromEntries([at(first), at(second)]),
    holds: ([one, other]) => isBelow(one, other),
    detail: ([one, other]) => power(one, other),
  };
}

const pairs = names.flatMap((base) => byForwardPasses.map((training) => [base, training] as const));

const claims: readonly ExperimentClaim[] = [
  claimOn(
    'task-loss',
    'Training by forward passes lowers the loss on the dev part significantly (paired t test, 5 %), whatever is trained',
    pairs.map(([base, training]) => compared(base, 'task-loss', training, NONE)),
  ),
  claimOn(
    'task-accuracy',
    'Training by forward passes raises the accuracy on the dev part significantly, whatever is trained',
    pairs.map(([base, training]) => compared(base, 'task-accuracy', NONE, training)),
  ),
  claimOn(
    'gradients',
    'The same adapters learn significantly more by gradients than by forward passes',
    names.map((base) => compared(base, 'task-loss', GRADIENTS, LORA)),
  ),
];

export const tinyTasks: RecipeExperiment = {
  name: 'tiny-tasks',
  title: 'A task of two labels, by forward passes alone and by gradients',
  description:
    `Was a sentence of a State of the Union speech said before 1900 or since? Sentences end in a label word and are cut to their last 32 tokens; the loss is over the two words. Codes of 8 and 4 bits in groups of 32; ${PASSES} forward passes of 32 examples: adapters of rank 4, scales, or codes with error feedback, one direction a step. ` +
    'Adapters of the same size by gradients (EMEF, two passes over the examples) for comparison. Loss and accuracy on the dev part, of other speeches, before and after; the last state counts. The most frequent label is right for 52.7 %. Seeds draw directions and the order of the examples.',
  source: 'arXiv 2502.12346, tables of tasks, whose figures are of models a thousand times as large and are not compared',
  models: ['tiny'],
  seeds: [0, 1, 2],
  // Of the text next to nothing is read: the runner says how far a step led from the dense model.
  calibrationWindows: 4,
  evaluators: ['task'],
  task: { source: 'sotu-era', length: 32 },
  arms: names.flatMap(armsOf),
  rowsOf,
  table: { rows: ['model', 'training'], columns: 'base', values: ['task-loss', 'task-accuracy', 'seconds'] },
  figure: panels(
    means('x', 'point', {
      x: { field: 'task-loss', title: 'loss on the dev part, nats', scale: { zero: false, padding: 12 } },
      y: { field: 'training', type: 'nominal', title: null, sort: [NONE, GRADIENTS, ...byForwardPasses], axis: { labelLimit: 260 } },
      color: { field: 'base', title: 'base', sort: names },
    }),
    { height: 120 },
  ),
  claims,
};
