// Options that every training of adapters has, and how they meet the defaults of a preset.
import type { ScaleDtype } from '@lowbit/quant';
import { z } from 'zod';

/** What a preset decides for any training. */
export interface TrainingDefaults {
  readonly rank?: number | undefined;
  readonly overhead?: number | undefined;
  readonly alpha?: number | undefined;
  readonly dropout: number;
  readonly learningRate: number;
  readonly warmup: number;
  readonly clipNorm: number;
  readonly weightDecay: number;
  readonly epochs: number;
  readonly batchWindows: number;
  readonly shuffle: boolean;
  readonly holdOut: number;
  readonly keepBest: boolean;
}

/** Parsed options that no preset decides. */
export interface AdapterTraining {
  readonly adapterDtype: ScaleDtype;
  readonly stack: boolean;
  readonly maxTokens?: number | undefined;
}

/** What descriptions say of the defaults of each preset: '1e-3, paper: 3e-5'. */
type DefaultTexts = Readonly<Record<'learningRate' | 'clipNorm' | 'epochs' | 'batchWindows' | 'shuffle' | 'holdOut' | 'keepBest', string>>;

/** Of adapters. */
export const adapterOptions = {
  adapterDtype: z
    .enum(['float16', 'float32'])
    .default('float16')
    .describe('How adapters are stored; what is judged and kept is rounded to it'),
  dropout: z
    .number()
    .min(0)
    .lt(1)
    .optional()
    .describe('Share of the inputs that an adapter does not see in a training step (0, paper: 0.05)'),
};

/** Of steps and rounds. */
export function trainingOptions(defaults: DefaultTexts) {
  return {
    learningRate: z.number().gt(0).optional().describe(`Peak learning rate of Adam (${defaults.learningRate})`),
    clipNorm: z.number().min(0).optional().describe(`Gradients are scaled down to this global norm; 0: not at all (${defaults.clipNorm})`),
    epochs: z.int().min(1).optional().describe(`Passes over the windows (${defaults.epochs})`),
    maxTokens: z.int().min(1).optional().describe('Tokens to train on at most, repeated ones counted, in whole steps; one step at least'),
    batchWindows: z.int().min(1).optional().describe(`Windows in a step (${defaults.batchWindows})`),
    shuffle: z.boolean().optional().describe(`Another order of the steps in every pass (${defaults.shuffle})`),
    holdOut: z
      .number()
      .min(0)
      .max(0.5)
      .optional()
      .describe(
        `Share of the windows that are not trained on but judged on; with 0, windows that are trained on are (${defaults.holdOut})`,
      ),
    keepBest: z
      .boolean()
      .optional()
      .describe(
        `Keep the state that was judged best, the start among them; else the last, with a warning if it is worse (${defaults.keepBest})`,
      ),
  };
}

/** What is written: an option that is undefined does not hide a default. */
export function definedOf<T extends object>(set: T): Partial<T> {
  return Object.fromEntries(Object.entries(set).filter(([, value]) => value !== undefined)) as Partial<T>;
}
