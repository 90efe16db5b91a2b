// Options of decoupleQ, and the two sets of defaults: what we recommend, and what the published Llama command runs.
import { groupSizeOption, scaleDtypeOption } from '@lowbit/quant';
import { z } from 'zod';

/** Defaults by preset. 'paper' is the command that the published Llama figures come from; the README names every difference. */
const presets = {
  default: {
    groupSize: 64,
    factorDampening: 0,
    codeStep: 'pgd+gptq',
    search: 'coarse-to-fine',
    scaleDtype: 'float16',
    // Best on stories15M, whose scales are about those of larger models, and near it on `tiny`, whose scales are three times as large.
    blockLearningRate: 3e-4,
    blockWeightDecay: 0,
    blockSchedule: 'cosine',
    blockLoss: 'relative',
    blockHoldOut: 0.1,
  },
  paper: {
    groupSize: -1,
    factorDampening: 0.01,
    codeStep: 'gptq',
    search: 'full',
    scaleDtype: 'float32',
    blockLearningRate: 1e-5,
    blockWeightDecay: 1e-6,
    blockSchedule: 'constant',
    blockLoss: 'absolute',
    blockHoldOut: 0,
  },
} as const;

const written = z.strictObject({
  preset: z
    .enum(['default', 'paper'])
    .default('default')
    .describe("Defaults of the other options: 'default' is recommended, 'paper' repeats the published Llama command"),
  bits: z.int().min(2).max(8).default(2).describe('Bits per code, 2 to 8'),
  groupSize: groupSizeOption
    .unwrap()
    .optional()
    .describe('Consecutive inputs that share a scale and an offset; -1: all inputs of an output channel (64, paper: -1)'),
  zero: z
    .enum(['free', 'integer', 'symmetric'])
    .default('free')
    .describe(
      "What code 0 stands for: a 'free' offset, an 'integer' multiple of the scale (formats with zero points), or none ('symmetric')",
    ),
  scaleDtype: scaleDtypeOption.unwrap().optional().describe('How scales and offsets are stored (float16, paper: float32)'),
  actOrder: z.boolean().default(true).describe('Round the inputs with the largest activations first; groups keep their inputs'),
  dampening: z
    .number()
    .gt(0)
    .max(1)
    .default(0.01)
    .describe("Added to the layer Hessian's diagonal, relative to its mean; the error that is minimised has it too"),
  factorDampening: z.number().min(0).max(1).optional().describe("Added once more for GPTQ's factor (0, paper: 0.01)"),
  iterations: z
    .int()
    .min(1)
    .max(64)
    .default(4)
    .describe('N: the first is GPTQ or rounding to nearest, whichever is better in each row; the others alternate'),
  search: z
    .enum(['coarse-to-fine', 'full', 'none'])
    .optional()
    .describe(
      "How the range that the alternation starts from is found: 'full' tries 160 shrink factors, 'none' starts from GPTQ's codes (coarse-to-fine, paper: full)",
    ),
  codeStep: z
    .enum(['gptq', 'pgd+gptq', 'first-level'])
    .optional()
    .describe('How codes are found for given scales and offsets (pgd+gptq, paper: gptq)'),
  relaxationSteps: z
    .int()
    .min(0)
    .max(10_000)
    .default(100)
    .describe('K: projected Adam steps on the relaxed weight before rounding (pgd+gptq, first-level)'),
  relaxationRate: z.number().gt(0).max(10).default(0.02).describe('Learning rate of these steps, relative to the median scale'),
  innerSteps: z.int().min(0).max(10_000).default(50).describe('J: projected Adam steps after each rounded input (first-level)'),
  descentSweeps: z.int().min(0).max(100).default(0).describe('Sweeps of integer coordinate descent after each code step'),
  ridge: z
    .number()
    .min(0)
    .max(1)
    .default(1e-6)
    .describe('Pull of scales and offsets towards their last values, relative to the mean diagonal of their system'),
  blockEpochs: z.int().min(0).max(1000).default(4).describe('Epochs of block-wise training of scales, offsets and norms; 0 leaves it out'),
  blockLearningRate: z
    .union([z.number().gt(0), z.array(z.number().gt(0)).min(1)])
    .optional()
    .describe('Learning rate of block-wise training; of several, the best on held-out windows is kept for each block (3e-4, paper: 1e-5)'),
  blockWeightDecay: z.number().min(0).optional().describe('L2 penalty of block-wise training, inside Adam (0, paper: 1e-6)'),
  blockSchedule: z
    .enum(['cosine', 'constant'])
    .optional()
    .describe('How the learning rate of block-wise training changes over its epochs (cosine, paper: constant)'),
  blockLoss: z
    .enum(['relative', 'absolute'])
    .optional()
    .describe(
      "'relative': the square error of a block counts relative to what it is before training, so that Adam's epsilon means the same for activations of any magnitude (relative, paper: absolute)",
    ),
  blockBatch: z.int().positive().default(1).describe('Windows in a step of block-wise training'),
  blockHoldOut: z
    .number()
    .min(0)
    .max(0.5)
    .optional()
    .describe('Share of the windows that block-wise training is judged on; the best epoch is kept, none with 0 (0.1, paper: 0)'),
  trainNorms: z.boolean().default(true).describe('Block-wise training also trains the weights of norms'),
  trainBiases: z.boolean().default(false).describe('Block-wise training also trains the biases of Linears'),
});

/** As they are written in a recipe. */
export type DecoupleqInput = z.input<typeof written>;

/** Schema of the method's options: what is not written comes from the preset. */
export const decoupleqOptions = written.transform((options) => {
  const { preset: _, ...set } = options;
  return { ...presets[options.preset], ...(withoutUndefined(set) as typeof set) } as Required<{
    [Name in keyof typeof set]-?: Exclude<(typeof set)[Name], undefined>;
  }>;
});

function withoutUndefined(record: object): object {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined));
}

/** Parsed. */
export type DecoupleqOptions = z.output<typeof decoupleqOptions>;
