// Options of training block by block.
import { z } from 'zod';
import { conflicts, courseShape, filled, qatOptions, weightShape } from '../options.js';
import { type Defaults, presets } from '../presets.js';

type BlockDefaults = Omit<Defaults, 'objective'>;

const { objective: _, ...standard } = presets.default;

/**
 * 'efficientqat': the first phase of arXiv 2407.11062, Block-AP, with its rates at 2 bits. Its rate of scales, 1e-4, is absolute; ours is relative to scales
 * of about 0.02. Norms are trained at the rate of scales, there at that of weights.
 */
const blockPresets = {
  default: standard,
  efficientqat: {
    ...standard,
    trainNorms: true,
    learningRate: 2e-5,
    scaleLearningRate: 5e-3,
    warmup: 0,
    clipNorm: 0,
    epochs: 2,
    batchWindows: 2,
  },
} satisfies Readonly<Record<string, BlockDefaults>>;

const written = z.strictObject({
  preset: z
    .enum(Object.keys(blockPresets) as [keyof typeof blockPresets, ...(keyof typeof blockPresets)[]])
    .default('default')
    .describe(
      "Defaults of the other options: 'default' is recommended, 'efficientqat' repeats its first phase, with rates for billions of weights",
    ),
  ...weightShape,
  target: z
    .enum(['dense-stream', 'quantized-stream'])
    .default('dense-stream')
    .describe(
      "What the output of a block is to be: that of the model in which no block is quantized (EfficientQAT), or what the dense block makes of the quantized blocks' output (decoupleQ)",
    ),
  ...courseShape,
  windowsAtOnce: qatOptions.in.shape.windowsAtOnce,
});

/** As they are written in a recipe. */
export type QatBlocksInput = z.input<typeof written>;

/** Schema of the method's options: what is not written comes from the preset. */
export const qatBlocksOptions = written.transform((set, context) => {
  const options = filled(set, blockPresets[set.preset]);
  for (const [path, message] of conflicts(options, set)) context.issues.push({ code: 'custom', message, input: set, path: [path] });
  return options;
});

/** Parsed. */
export type QatBlocksOptions = z.output<typeof qatBlocksOptions>;
