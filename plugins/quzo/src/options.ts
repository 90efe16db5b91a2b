// Options of zeroth-order fine-tuning, and how they meet the defaults of a preset.
import { z } from 'zod';
import { MOST_QUERIES, MOST_STEPS } from './direction/keys.js';
import { type Defaults, type PresetName, presets } from './presets.js';
import { type VariantName, variantDefaults, variantNames } from './variants/names.js';

const written = z.strictObject({
  preset: z
    .enum(Object.keys(presets) as [PresetName, ...PresetName[]])
    .default('quzo-lattice-int8')
    .describe('Defaults of the other options'),
  variant: z
    .enum(variantNames)
    .optional()
    .describe('A published change of the direction, the estimator, the update, or of which elements are trained'),
  parameters: z
    .enum(['codes', 'scales', 'adapters', 'weights'])
    .optional()
    .describe(
      "What is trained of a Linear: the 'codes' of an affine weight on their grid, the 'scales' of its groups, a low-rank adapter (a new one where there is none), or dense float 'weights'",
    ),
  estimator: z
    .enum(['mezo', 'rge1', 'rge1-debiased', 'rge2'])
    .optional()
    .describe(
      "How directions are rounded: 'mezo' not at all; 'rge1' once, for losses and update; 'rge1-debiased' the same, divided by the second moment of the rounded direction; 'rge2' anew for the update, as published",
    ),
  distribution: z.enum(['rademacher', 'gaussian']).optional().describe('Of the elements of a direction before it is rounded'),
  perturbBits: z.int().min(2).max(8).optional().describe('Bits that directions of float elements are rounded to; codes have whole steps'),
  epsilon: z
    .number()
    .gt(0)
    .max(16)
    .optional()
    .describe('Perturbation size, in the units of what is trained: in codes, for codes; of float elements absolute'),
  rounding: z
    .enum(['error-feedback', 'sr', 'nearest'])
    .optional()
    .describe(
      "How the step of a code becomes whole: 'error-feedback' carries what is left to the next step, 'sr' rounds up or down at random, 'nearest' to the nearest; float elements take their step as it is",
    ),
  carry: z
    .enum(['float32', '16-bit', 'replay'])
    .optional()
    .describe(
      "Where 'error-feedback' has its carry: kept in 'float32', or in '16-bit' units of 2^−15 of a code, of which steps of half a unit and less never arrive; or not kept, but computed anew from the log's last steps: 'replay' takes no memory and as many times the draws of an update",
    ),
  carryWindow: z.int().min(1).default(50).describe("Steps that the carry 'replay' looks back"),
  carryDecay: z
    .number()
    .min(0)
    .max(1)
    .optional()
    .describe(
      "Share of the carry that 'error-feedback' keeps from step to step: 1, or 0.9 with the carry 'replay'; below 1, steps that are small against 1 − carryDecay never arrive",
    ),
  learningRate: z.number().min(0).optional().describe('Step size, in the units of what is trained'),
  schedule: z.enum(['constant', 'linear', 'cosine']).optional().describe('Course of the learning rate over the steps, down to 0'),
  warmup: z.number().min(0).max(1).default(0).describe('Share of the steps over which the learning rate rises'),
  weightDecay: z.number().min(0).default(0).describe('Pull of adapters and dense weights towards zero; codes and scales have none'),
  steps: z.int().min(1).max(MOST_STEPS).default(1000).describe('Steps'),
  queries: z.int().min(1).max(MOST_QUERIES).optional().describe('Directions that a step averages'),
  batchWindows: z.int().min(1).optional().describe('Windows, or examples of a task, in a step'),
  clip: z.number().min(0).optional().describe('Directional derivatives are cut to ± this; 0: not at all'),
  sparsity: z
    .number()
    .min(0)
    .lt(1)
    .optional()
    .describe('Share of the elements of each tensor, the largest magnitudes, that stay as they are'),
  lozoRank: z.int().min(1).default(2).describe("Variant 'lozo': rank of the direction of a matrix"),
  lozoInterval: z.int().min(1).default(50).describe("Variant 'lozo': steps for which one factor of the directions stays"),
  rank: z.int().min(1).optional().describe('Rank of new adapters'),
  alpha: z.number().gt(0).optional().describe('New adapters are scaled by alpha / rank'),
  holdOut: z
    .number()
    .min(0)
    .max(0.5)
    .default(0)
    .describe('Share of the calibration windows that are not trained on but judged on; a task brings its own'),
  judgeEvery: z.int().min(1).default(100).describe('Steps from one judgement, log record and save to the next'),
  keepBest: z.boolean().default(true).describe('Keep the state that was judged best, the start among them, where anything is judged on'),
  patience: z.int().min(1).optional().describe('Stop after this many judgements without a better one'),
});

/** As they are written in a recipe. */
export type QuzoInput = z.input<typeof written>;

/** Parsed: what is not written comes from the preset. */
export type QuzoOptions = Defaults & { readonly variant: VariantName; readonly carryDecay: number } & Omit<
    z.output<typeof written>,
    keyof Defaults | 'variant' | 'carryDecay'
  >;

/** Whether the carry of codes is rebuilt from the log. */
export function isReplayed({ rounding, carry }: Pick<QuzoOptions, 'rounding' | 'carry'>): boolean {
  return rounding === 'error-feedback' && carry === 'replay';
}

/** Schema of the method's options. An option that is written as undefined does not hide a default; those of a variant that is written come before a preset's. */
export const quzoOptions = written.transform((set, context): QuzoOptions => {
  const isWritten = Object.entries(set).filter(([, value]) => value !== undefined);
  const chosen = {
    variant: 'none' as VariantName,
    ...presets[set.preset],
    ...variantDefaults[set.variant ?? 'none'],
    ...(Object.fromEntries(isWritten) as Omit<QuzoOptions, keyof Defaults | 'variant' | 'carryDecay'>),
  };
  // That of quantized evolution strategies: what a window forgets must have faded.
  const options = { ...chosen, carryDecay: set.carryDecay ?? (chosen.carry === 'replay' ? 0.9 : 1) };
  const refuse = (message: string, name: keyof QuzoOptions): void => {
    context.issues.push({ code: 'custom', message, input: options[name], path: [name] });
  };
  if (options.variant === 'fzoo' && options.queries < 2) {
    refuse("variant 'fzoo' needs queries: 2 or more, as its steps are in units of how much their losses differ", 'queries');
  }
  const isSparse = options.sparsity > 0 || options.variant === 'sparse-mezo';
  if (options.parameters === 'codes' && isReplayed(options) && isSparse) {
    refuse(
      "carry 'replay' needs sparsity: 0 and no sparse variant, as the log does not say which codes its steps left out; choose carry '16-bit'",
      'carry',
    );
  }
  return options;
});
