// Options of EMEF, and two sets of defaults: what we recommend, and the published fine-tuning of LLaMA-7B.
import { z } from 'zod';
import { type AdapterTraining, adapterOptions, definedOf, type TrainingDefaults, trainingOptions } from '../adapters/training-options.js';

/** What a preset decides. */
interface Defaults extends TrainingDefaults {
  readonly schedule: 'constant' | 'cosine' | 'linear';
  readonly windowsAtOnce: number;
}

/** Parsed. Of `rank` and `overhead` the first one that is there counts. */
export interface EmefOptions extends Defaults, AdapterTraining {
  readonly start: 'uniform' | 'normal';
}

/** 'paper' is the INT2 run, whose targets are ['**.q_proj', '**.v_proj']; what the reference code leaves to its trainer is as it leaves it. */
const presets: Readonly<Record<'default' | 'paper', Defaults>> = {
  default: {
    rank: 8,
    alpha: 16,
    dropout: 0,
    learningRate: 3e-4,
    schedule: 'cosine',
    warmup: 0.03,
    clipNorm: 1,
    weightDecay: 0,
    epochs: 3,
    batchWindows: 8,
    windowsAtOnce: 8,
    shuffle: true,
    holdOut: 0.05,
    keepBest: true,
  },
  paper: {
    rank: 8,
    alpha: 16,
    dropout: 0.05,
    learningRate: 3e-4,
    schedule: 'linear',
    warmup: 100,
    clipNorm: 1,
    weightDecay: 0,
    epochs: 3,
    batchWindows: 128,
    windowsAtOnce: 1,
    shuffle: true,
    holdOut: 0.04,
    keepBest: true,
  },
};

const written = z.strictObject({
  preset: z
    .enum(['default', 'paper'])
    .default('default')
    .describe("Defaults of the other options: 'default' is recommended, 'paper' repeats the published INT2 fine-tuning of LLaMA-7B"),
  rank: z.int().min(1).optional().describe('Rank of every adapter (8)'),
  overhead: z
    .number()
    .gt(0)
    .max(1)
    .optional()
    .describe('In place of rank, bits of the adapters as a share of the whole checkpoint before them; the ranks follow'),
  alpha: z.number().gt(0).optional().describe('The adapter is scaled by alpha / rank (16; with overhead by 1, as the ranks may differ)'),
  start: z
    .enum(['uniform', 'normal'])
    .default('uniform')
    .describe("How A of a new adapter is drawn; B is zero: 'uniform' in ±1/√inputs, 'normal' with deviation 1/rank"),
  stack: z
    .boolean()
    .default(true)
    .describe('Put a new adapter on top of one that is there, which stays as it is; else that one is trained on'),
  ...adapterOptions,
  ...trainingOptions({
    learningRate: '3e-4',
    clipNorm: '1',
    epochs: '3',
    batchWindows: '8, paper: 128',
    shuffle: 'true',
    holdOut: '0.05, paper: 0.04',
    keepBest: 'true',
  }),
  schedule: z
    .enum(['constant', 'cosine', 'linear'])
    .optional()
    .describe('Course of the learning rate after it has risen (cosine, paper: linear, down to 0)'),
  warmup: z
    .number()
    .min(0)
    .optional()
    .describe('Share of the steps over which the learning rate rises; above 1, how many steps (0.03, paper: 100)'),
  weightDecay: z.number().min(0).optional().describe('Pull of the adapters towards zero, decoupled (0)'),
  windowsAtOnce: z
    .int()
    .min(1)
    .optional()
    .describe('Windows of a step that are computed together, the others after them: fewer take less memory (8, paper: 1)'),
});

/** As they are written in a recipe. */
export type EmefInput = z.input<typeof written>;

/** Schema of the method's options: what is not written comes from the preset. */
export const emefOptions = written.transform(({ preset, ...set }): EmefOptions => {
  const { rank, alpha, ...defaults } = presets[preset];
  // An overhead takes the place of the preset's rank, and of the scaling that goes with it.
  const isPublished = set.rank !== undefined || set.overhead === undefined;
  return {
    ...defaults,
    ...(definedOf(set) as AdapterTraining & Pick<EmefOptions, 'start'>),
    rank: set.rank ?? (isPublished ? rank : undefined),
    alpha: set.alpha ?? (isPublished ? alpha : undefined),
  };
});
