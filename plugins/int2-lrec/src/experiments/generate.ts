// What INT2 models write.
import type { RecipeExperiment, StepReference } from '@lowbit/core';
import { logarithmic, means } from '@lowbit/core/experiments';
import { arm, closedFormStep, protocol } from './arms.js';

const grid = { bits: 2, groupSize: 32 };
const OVERHEAD = 0.06;

/** Each with the defaults that one would use: a good model is what is to be shown. */
const rtn: StepReference = { method: 'rtn', options: grid };
const gptq: StepReference = { method: 'gptq', options: grid };
const recipes: Readonly<Record<string, readonly StepReference[]>> = {
  'INT2, rounded to nearest': [rtn],
  'INT2, GPTQ': [gptq],
  'INT2, GPTQ + LREC': [gptq, closedFormStep('qera-exact', OVERHEAD), { method: 'lrec', options: { overhead: OVERHEAD } }],
};

export const generate: RecipeExperiment = {
  name: 'generate',
  title: 'What INT2 models write: rounded to nearest, by GPTQ, with LREC',
  description:
    'Every model continues the same beginnings, taking the most probable token each time, so that nothing is left to luck. Codes of 2 bits in groups of 32 whose ranges each method chooses as it does by default; LREC starts from the best closed form and ' +
    'trains adapters of 6 % of the checkpoint for four passes over the calibration windows. The paper presents the first INT2 language model that writes coherent English: read whether the texts are English, whether they repeat ' +
    'themselves, and whether they stay with their story. The KL to the dense model stands beside them.',
  source: 'arXiv 2306.08162, the INT2 model that writes coherent English',
  ...protocol,
  models: ['stories15M'],
  seeds: [0],
  samples: { prompts: ['Once upon a time', 'The little dog was sad because', 'Lily found a red box in the garden.'], maxTokens: 80 },
  arms: Object.entries(recipes).map(([quantized, recipe]) => arm(recipe, { quantized })),
  table: { rows: ['model', 'quantized'], values: ['kl', 'perplexity', 'bitsPerWeight'] },
  figure: {
    ...means('x', 'point', {
      x: { field: 'kl', title: 'KL, nats per token', scale: logarithmic },
      y: { field: 'quantized', type: 'nominal', title: null, sort: Object.keys(recipes), axis: { labelLimit: 260 } },
      color: { field: 'model', title: 'model' },
    }),
    width: 480,
    height: 120,
  },
};
