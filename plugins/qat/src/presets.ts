// Named sets of defaults: what we recommend, and how publications trained.

/** What a preset decides. */
export interface Defaults {
  /** −1: all inputs of an output channel. */
  readonly groupSize: number;
  readonly quantizer: 'learned' | 'minmax' | 'lwc' | 'seq';
  readonly zero: 'symmetric' | 'integer' | 'free';
  readonly train: 'all' | 'scales';
  readonly trainNorms: boolean;
  readonly objective: 'ce' | 'kl' | 'reverse-kl' | 'cakld' | 'jsd' | 'hidden';
  readonly learningRate: number | number[];
  readonly scaleLearningRate: number;
  readonly warmup: number;
  /** 0: not at all. */
  readonly clipNorm: number;
  readonly epochs: number;
  readonly batchWindows: number;
}

const standard: Defaults = {
  groupSize: 32,
  quantizer: 'learned',
  zero: 'integer',
  train: 'all',
  trainNorms: false,
  objective: 'kl',
  learningRate: 2e-4,
  scaleLearningRate: 1e-3,
  warmup: 0.1,
  clipNorm: 1,
  epochs: 2,
  batchWindows: 8,
};

/**
 * 'paper': ranges recomputed at every step, on the next token (arXiv 2410.14570; the rates are ours, as it searches them). 'efficientqat': its second
 * phase, scales alone (arXiv 2407.11062; its rate of 2e-5 is absolute, ours relative to scales of about 0.02). 'paretoq': arXiv 2502.02631.
 * 'llm-qat': arXiv 2305.17888. Both of these have one scale for each output channel.
 */
export const presets = {
  default: standard,
  paper: { ...standard, quantizer: 'minmax', objective: 'ce', learningRate: 3e-4 },
  efficientqat: { ...standard, train: 'scales', objective: 'ce', warmup: 0.03, clipNorm: 0.3, epochs: 1, batchWindows: 32 },
  paretoq: {
    ...standard,
    groupSize: -1,
    quantizer: 'seq',
    zero: 'symmetric',
    objective: 'ce',
    learningRate: 2e-5,
    warmup: 0,
    epochs: 1,
    batchWindows: 128,
  },
  'llm-qat': { ...standard, groupSize: -1, quantizer: 'minmax', zero: 'symmetric', learningRate: 2e-5, warmup: 0, epochs: 1 },
} satisfies Readonly<Record<string, Defaults>>;

export type PresetName = keyof typeof presets;
