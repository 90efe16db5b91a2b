// Options of LREC, and three sets of defaults: what we recommend, the published 7B command, and RILQ's objective.
import { z } from 'zod';
import { type AdapterTraining, adapterOptions, definedOf, type TrainingDefaults, trainingOptions } from '../adapters/training-options.js';

/** What a preset decides. */
interface Defaults extends TrainingDefaults {
  readonly objective: 'kl' | 'hidden';
  readonly start: 'uniform' | 'normal';
  readonly schedule: 'constant' | 'cosine';
  readonly decay: 'decoupled' | 'l2';
  readonly lambdaCe: number;
  readonly legacyWeights?: { readonly kl: number; readonly ce: number } | undefined;
}

/** Parsed. Of `rank` and `overhead` the first one that is there counts, and `legacyWeights` before `lambdaCe`. */
export interface LrecOptions extends Defaults, AdapterTraining {
  readonly teacher: 'live' | 'cache';
  readonly topK: number;
}

const recommended: Defaults = {
  objective: 'kl',
  overhead: 0.05,
  start: 'uniform',
  dropout: 0,
  learningRate: 1e-3,
  schedule: 'cosine',
  warmup: 0.03,
  clipNorm: 1,
  weightDecay: 0,
  decay: 'decoupled',
  epochs: 4,
  batchWindows: 2,
  shuffle: true,
  holdOut: 0.05,
  keepBest: true,
  lambdaCe: 0.05,
};

/** 'paper' is the INT2 script of LLaMA-7B, whose targets are ['**', '!**.down_proj']; the README names every difference. */
const presets: Readonly<Record<'default' | 'paper' | 'rilq', Defaults>> = {
  default: recommended,
  paper: {
    objective: 'kl',
    rank: 32,
    alpha: 128,
    start: 'uniform',
    dropout: 0.05,
    learningRate: 3e-5,
    schedule: 'constant',
    warmup: 0,
    clipNorm: 0,
    weightDecay: 1e-5,
    decay: 'l2',
    epochs: 10,
    batchWindows: 7,
    shuffle: false,
    holdOut: 0,
    keepBest: false,
    lambdaCe: 120 / 2048,
    legacyWeights: { kl: 1, ce: 120 },
  },
  rilq: {
    ...recommended,
    objective: 'hidden',
    start: 'normal',
    learningRate: 1e-4,
    schedule: 'constant',
    warmup: 0,
    clipNorm: 0,
    batchWindows: 8,
    holdOut: 0.2,
  },
};

const written = z.strictObject({
  preset: z
    .enum(['default', 'paper', 'rilq'])
    .default('default')
    .describe(
      "Defaults of the other options: 'default' is recommended, 'paper' repeats the published 7B script, 'rilq' the objective of RILQ",
    ),
  objective: z
    .enum(['kl', 'hidden'])
    .optional()
    .describe(
      "What is minimised: 'kl', the KL divergence to the dense model and a share of cross-entropy; 'hidden', half the squared error of the last hidden state and half the cross-entropy (kl, rilq: hidden)",
    ),
  lambdaCe: z
    .number()
    .min(0)
    .optional()
    .describe(
      "Weight of the next token's cross-entropy beside the KL divergence, both averaged over tokens, for the objective 'kl' (0.05)",
    ),
  legacyWeights: z
    .strictObject({ kl: z.number().min(0), ce: z.number().min(0) })
    .refine(({ kl, ce }) => kl + ce > 0, 'one of kl and ce must be above 0')
    .optional()
    .describe(
      'In place of lambdaCe, the weights of a KL summed over the tokens of a window and a cross-entropy averaged over them (paper: 1 and 120)',
    ),
  rank: z.int().min(1).optional().describe('Rank of every adapter, in place of overhead (paper: 32)'),
  overhead: z
    .number()
    .gt(0)
    .max(1)
    .optional()
    .describe('Bits of the adapters as a share of the whole checkpoint before them; the ranks follow (0.05)'),
  alpha: z.number().gt(0).optional().describe('The correction is scaled by alpha / rank; by 1 without it (paper: 128)'),
  start: z
    .enum(['uniform', 'normal'])
    .optional()
    .describe(
      "How A is drawn where there is no adapter yet; B is zero: 'uniform' in ±1/√inputs, 'normal' with deviation 1/rank (uniform, rilq: normal)",
    ),
  stack: z
    .boolean()
    .default(false)
    .describe(
      'A new adapter on top of one that a Linear has already, which stays as it is; else that one is trained on, with the rank and scaling that it has',
    ),
  teacher: z
    .enum(['live', 'cache'])
    .default('live')
    .describe(
      "'live' runs the dense model beside the corrected one; 'cache' keeps its most probable tokens for every window, once ('kl'), and the KL before and after is a lower bound then",
    ),
  topK: z
    .int()
    .min(1)
    .default(64)
    .describe(
      "Most probable tokens that a cached position keeps; the others' probability is kept as one number, so that the KL that is trained on and reported is a lower bound",
    ),
  ...adapterOptions,
  ...trainingOptions({
    learningRate: '1e-3, paper: 3e-5, rilq: 1e-4',
    clipNorm: '1, paper and rilq: 0',
    epochs: '4, paper: 10',
    batchWindows: '2, paper: 7, rilq: 8',
    shuffle: 'true, paper: false',
    holdOut: '0.05, paper: 0, rilq: 0.2',
    keepBest: 'true, paper: false',
  }),
  schedule: z.enum(['constant', 'cosine']).optional().describe('Course of the learning rate (cosine, paper and rilq: constant)'),
  warmup: z.number().min(0).max(1).optional().describe('Share of the steps over which the learning rate rises (0.03, paper and rilq: 0)'),
  weightDecay: z.number().min(0).optional().describe('Pull of the adapters towards zero (0, paper: 1e-5)'),
  decay: z
    .enum(['decoupled', 'l2'])
    .optional()
    .describe("Where it acts: on the adapters (AdamW, 'decoupled') or in the gradient (decoupled, paper: l2)"),
});

/** As they are written in a recipe. */
export type LrecInput = z.input<typeof written>;

/** Schema of the method's options: what is not written comes from the preset. */
export const lrecOptions = written
  .refine(({ preset, objective, teacher }) => teacher === 'live' || (objective ?? presets[preset].objective) === 'kl', {
    path: ['teacher'],
    message: "a cache holds probabilities and no hidden states; the objective 'hidden' needs teacher 'live'",
  })
  .transform(({ preset, ...set }): LrecOptions => {
    const { rank, overhead, legacyWeights, ...defaults } = presets[preset];
    // What is written takes the place of the preset's other way to say it.
    const isSized = set.rank !== undefined || set.overhead !== undefined;
    const isWeighted = set.lambdaCe !== undefined || set.legacyWeights !== undefined;
    return {
      ...defaults,
      ...(definedOf(set) as AdapterTraining & Pick<LrecOptions, 'teacher' | 'topK'>),
      rank: isSized ? set.rank : rank,
      overhead: isSized ? set.overhead : overhead,
      legacyWeights: isWeighted ? set.legacyWeights : legacyWeights,
    };
  });
