// Options of tuning.
import { z } from 'zod';

/** Schema of the method's options. */
export const tuneOptions = z.strictObject({
  parameters: z
    .array(z.enum(['outlier', 'scale']))
    .min(1)
    .default(['outlier', 'scale'])
    .describe("What is trained: 'outlier' columns, and the 'scale' of every group of codes; everything else stays"),
  loss: z
    .enum(['ce', 'kd'])
    .default('ce')
    .describe("What is minimised: 'ce', the cross-entropy of the next token, or 'kd', the KL divergence from the dense model"),
  learningRate: z
    .number()
    .gt(0)
    .max(1)
    .default(1e-5)
    .describe(
      'Peak learning rate of AdamW, of scales relative to their start: 1e-5 is for billions of weights, models of some millions take 1e-4 to 5e-4',
    ),
  warmup: z
    .number()
    .min(0)
    .max(1)
    .default(0.1)
    .describe('Share of the steps over which the learning rate rises; a cosine takes it down to 0 after them'),
  clipNorm: z.number().min(0).default(1).describe('Gradients are scaled down to this global norm; 0: not at all'),
  weightDecay: z.number().min(0).default(0).describe('Pull of the parameters towards zero, decoupled'),
  epochs: z.int().min(1).default(1).describe('Passes over the windows'),
  maxTokens: z.int().min(1).optional().describe('Tokens to train on at most, repeated ones counted, in whole steps; one step at least'),
  batchWindows: z.int().min(1).default(8).describe('Windows in a step (the paper: 128)'),
  windowsAtOnce: z
    .int()
    .min(1)
    .default(8)
    .describe('Windows of a step that are computed together, the others after them: fewer take less memory'),
  shuffle: z.boolean().default(true).describe('Another order of the steps in every pass'),
  holdOut: z
    .number()
    .min(0)
    .max(0.5)
    .default(0.05)
    .describe('Share of the windows that are not trained on but judged on; with 0, windows that are trained on are'),
  keepBest: z
    .boolean()
    .default(true)
    .describe('Keep the state that was judged best, the start among them; else the last, with a warning if it is worse'),
});

/** As they are written in a recipe. */
export type TuneInput = z.input<typeof tuneOptions>;

export type TuneOptions = z.output<typeof tuneOptions>;
