// Options of quantization-aware fine-tuning, and how they meet the defaults of a preset.
import { bitsOption, clipOption, groupSizeOption, scaleDtypeOption } from '@lowbit/quant';
import { distances } from '@lowbit/train';
import { z } from 'zod';
import { type PresetName, presets } from './presets.js';

/** What both methods take: grids, what is trained of them, and where it begins. */
export const weightShape = {
  bits: bitsOption.describe('Bits per code of dense Linears, 1 to 8; quantized ones keep theirs, as they do the three options after it'),
  groupSize: groupSizeOption.unwrap().optional().describe(`${groupSizeOption.description} (32)`),
  zero: z
    .enum(['symmetric', 'integer', 'free'])
    .optional()
    .describe(
      "What code 0 stands for: implied by the scale ('symmetric'), an 'integer' multiple of the scale (formats with zero points), or a 'free' offset (integer)",
    ),
  scaleDtype: scaleDtypeOption,
  clip: clipOption('minmax').describe(
    "Ranges of dense Linears to begin with, and those of 'minmax' at every step: 'minmax' covers every weight of a group; 'mse' shrinks the range where that lowers the rounding error: with quantizer 'minmax' it is searched on the host at every step, which takes some 0.2 µs a weight, as long as the rest of a step or longer",
  ),
  quantizer: z
    .enum(['learned', 'minmax', 'lwc', 'seq'])
    .optional()
    .describe(
      "How grids follow the weights: 'learned' scales and offsets (LSQ, LSQ+); ranges recomputed at every step ('minmax'), or these shrunk by learned factors ('lwc', OmniQuant); 'seq' (ParetoQ, dense Linears): four levels around zero at 2 bits, else learned scales (learned)",
    ),
  train: z
    .enum(['all', 'scales'])
    .optional()
    .describe("'all': weights and grids; 'scales': scales and free offsets of quantized Linears, whose codes stay (all)"),
  latent: z
    .enum(['reference', 'codes', 'dequantized'])
    .default('codes')
    .describe(
      "Weights behind the codes of quantized Linears: the full-precision ones, moved to where they round to the given codes ('codes') or not ('reference'), or what the codes stand for ('dequantized')",
    ),
  trainNorms: z
    .boolean()
    .optional()
    .describe(
      'Also trains the weights of norms, at the rate of scales: of blocks with a targeted Linear, and the last one where all blocks have such (false)',
    ),
} as const;

const rate = z.number().gt(0).max(1);

/** What both methods take: the course of training. */
export const courseShape = {
  optimizer: z.enum(['adamw', 'sgd']).default('adamw').describe("'sgd': with momentum 0.9"),
  gradientScale: z
    .boolean()
    .default(false)
    .describe(
      'Gradients of scales and offsets divided by √(weights that share a scale · (2^(bits−1) − 1)), as in LSQ; for sgd, since AdamW divides it out',
    ),
  learningRate: z
    .union([rate, z.array(rate).min(1)])
    .optional()
    .describe(
      'Peak learning rate of weights, where any are trained: 2e-5 is for billions of them, models of some millions take 1e-4 to 3e-4 from codes, up to 1e-3 from dense weights; of several the best on held-out windows is kept (2e-4)',
    ),
  scaleLearningRate: rate
    .optional()
    .describe(
      'Peak learning rate of scales and offsets, and of norms; scales are trained relative to the scale that they begin with; of several learningRates it belongs to the first and goes along in proportion, under AdamW to 0.1 at most (1e-3)',
    ),
  schedule: z.enum(['cosine', 'constant']).default('cosine').describe('Course of the rate after the warm-up, down to 0 or not'),
  warmup: z.number().min(0).max(1).optional().describe('Share of the steps over which the learning rate rises (0.1)'),
  clipNorm: z.number().min(0).optional().describe('Gradients are scaled down to this global norm; 0: not at all (1)'),
  weightDecay: z.number().min(0).default(0).describe('Pull of weights towards zero, decoupled; scales, offsets and norms have none'),
  epochs: z
    .int()
    .min(1)
    .optional()
    .describe('Passes over the windows (2); trained in rounds of equal length, so that a few steps at the end may be left out'),
  maxTokens: z.int().min(1).optional().describe('Tokens to train on at most, repeated ones counted, in whole steps; one step at least'),
  batchWindows: z.int().min(1).optional().describe('Windows in a step, or examples of a task (8)'),
  shuffle: z.boolean().default(true).describe('Another order of the steps in every pass'),
  holdOut: z
    .number()
    .min(0)
    .max(0.5)
    .default(0.05)
    .describe(
      'Share of the windows that are not trained on but judged on; with 0, windows that are trained on are. A task brings what it is judged on, and this has no effect',
    ),
  judgeEvery: z
    .int()
    .min(1)
    .optional()
    .describe(
      'Steps of a round, from one judgement and log record to the next; about eight rounds by default. Steps that do not fill a round at the end are left out',
    ),
  keepBest: z
    .boolean()
    .default(true)
    .describe('Keep what was judged best, what the step was given among it; else the last state, with a warning if it is worse'),
  patience: z.int().min(0).default(0).describe('Stop after so many judgements without a better one; 0: never'),
} as const;

const presetOption = z
  .enum(Object.keys(presets) as [PresetName, ...PresetName[]])
  .default('default')
  .describe(
    "Defaults of the other options: 'default' is recommended, the others repeat a publication's settings, rates for billions of weights among them",
  );

const written = z.strictObject({
  preset: presetOption,
  ...weightShape,
  objective: z
    .enum(['ce', ...distances])
    .optional()
    .describe(
      "What is minimised: 'ce', cross-entropy of the next token or of the run's task; or a distance from the dense model: 'kl', 'reverse-kl', 'cakld' (BitDistiller), 'jsd', 'hidden' (the last hidden state) (kl)",
    ),
  lambdaCe: z.number().min(0).default(0).describe('Weight of the cross-entropy of the next token beside a distance'),
  ...courseShape,
  windowsAtOnce: z
    .int()
    .min(1)
    .default(8)
    .describe('Windows of a step that are computed together, the others after them: fewer take less memory'),
});

/** As they are written in a recipe. */
export type QatInput = z.input<typeof written>;

/** What the schema infers, where everything that a preset decides is there. */
type Filled<Written, Defaults> = Omit<Written, keyof Defaults> & { [Name in keyof Defaults]-?: Defaults[Name] };

/** What is written, and the defaults of a preset for what is not. An option that is written as undefined does not hide one. */
export function filled<Written extends object, Defaults extends object>(set: Written, defaults: Defaults): Filled<Written, Defaults> {
  const isWritten = Object.entries(set).filter(([, value]) => value !== undefined);
  return { ...defaults, ...(Object.fromEntries(isWritten) as Written) } as Filled<Written, Defaults>;
}

/** Schema of the method's options: what is not written comes from the preset. */
export const qatOptions = written.transform((set, context) => {
  const options = filled(set, presets[set.preset]);
  for (const [path, message] of conflicts(options, set)) context.issues.push({ code: 'custom', message, input: set, path: [path] });
  if (options.objective === 'ce' && options.lambdaCe > 0) {
    const message = "is the weight of cross-entropy beside a distance; objective 'ce' has nothing beside it";
    context.issues.push({ code: 'custom', message, input: set, path: ['lambdaCe'] });
  }
  return options;
});

/** Options that contradict each other, with what to do. @param written without what presets add. */
export function conflicts(
  options: Omit<QatOptions, 'preset' | 'objective' | 'lambdaCe' | 'windowsAtOnce'>,
  written: Pick<QatInput, 'zero'>,
): readonly (readonly [option: string, problem: string])[] {
  const { quantizer, zero, train, gradientScale, optimizer, keepBest, patience } = options;
  const found: [string, string][] = [...unread(options)];
  if (train === 'scales' && quantizer !== 'learned') {
    found.push(['quantizer', `'${quantizer}' finds its grid from weights, which train 'scales' leaves out; use 'learned'`]);
  }
  if (quantizer === 'lwc' && zero === 'symmetric') {
    found.push(['zero', "'lwc' shrinks both ends of a range, and a symmetric grid has one; use 'integer' or 'free'"]);
  }
  if (quantizer === 'seq' && (written.zero ?? 'symmetric') !== 'symmetric') {
    found.push(['zero', "'seq' has grids around zero at all widths; leave it out, or use quantizer 'learned'"]);
  }
  if (gradientScale && optimizer === 'adamw') {
    found.push(['gradientScale', "changes nothing under AdamW, which divides it out; use optimizer 'sgd', or set scaleLearningRate"]);
  }
  const largest = largestScaleRate(options);
  if (optimizer === 'adamw' && largest > LARGEST_SCALE_RATE) {
    const remedy = 'put the largest rate first, or lower scaleLearningRate';
    const reason = `the largest takes scales along to a rate of ${Number(largest.toPrecision(2))} a step, relative to where they begin`;
    found.push(['learningRate', `${reason}; ${remedy}`]);
  }
  if (patience > 0 && !keepBest) found.push(['patience', 'waits for a better state to keep; set keepBest, or leave it out']);
  return found;
}

/** Options that differ from their defaults and that nothing would read. */
function unread({
  quantizer,
  bits,
  train,
  latent,
  clip,
  weightDecay,
}: Pick<QatOptions, 'quantizer' | 'bits' | 'train' | 'latent' | 'clip' | 'weightDecay'>): readonly [string, string][] {
  const found: [string, string][] = [];
  if (train === 'scales') {
    const reason = "is about weights behind codes, which train 'scales' does not have; leave it out";
    if (latent !== 'codes') found.push(['latent', reason]);
    if (clip !== 'minmax') found.push(['clip', reason]);
    if (weightDecay > 0) found.push(['weightDecay', reason]);
  } else if (clip !== 'minmax' && (quantizer === 'lwc' || (quantizer === 'seq' && bits === 2))) {
    found.push(['clip', `'${quantizer}' has ranges of its own; leave it out, or use quantizer 'learned' or 'minmax'`]);
  }
  return found;
}

/** A step of AdamW moves a scale by about its rate: ten of them would be as much as the scale. */
const LARGEST_SCALE_RATE = 0.1;

/** The rate of scales that the largest of several learning rates takes along; what is written for the first one is not questioned. */
function largestScaleRate({
  learningRate,
  scaleLearningRate,
  quantizer,
  trainNorms,
}: Pick<QatOptions, 'learningRate' | 'scaleLearningRate' | 'quantizer' | 'trainNorms'>): number {
  const rates = [learningRate].flat();
  const largest = Math.max(...rates);
  const hasScales = quantizer !== 'minmax' || trainNorms;
  return hasScales && largest > rates[0] ? (scaleLearningRate * largest) / rates[0] : 0;
}

/** Parsed. */
export type QatOptions = z.output<typeof qatOptions>;
