// @lowbit/int2-lrec: low-rank error correction of quantized models, trained towards the dense model.

export { lowRankCorrection } from './correction/method.js';
export {
  correctionOptions as lowRankCorrectionOptions,
  type LowRankCorrectionInput,
  type LowRankCorrectionOptions,
} from './correction/options.js';
export { emef } from './emef/method.js';
export { type EmefInput, type EmefOptions, emefOptions } from './emef/options.js';
export { experiments } from './experiments/index.js';
export { lrec } from './lrec/method.js';
export { type LrecInput, type LrecOptions, lrecOptions } from './lrec/options.js';
export {
  activationBytes,
  adapterParameters,
  bitsPerWeight,
  type CodeFormat,
  configShape,
  fittingGroupSize,
  GPU_CONTEXT_BYTES,
  type LayerShape,
  type LlamaSizes,
  linearParameters,
  llama7B,
  llamaShape,
  logitBytes,
  type ModelShape,
  type NamedRatio,
  parameterCount,
  publishedRatios,
  quantizedBytes,
  type RatioSettings,
  type TrainingBatch,
  type TrainingMemory,
  trainingMemory,
} from './memory-model.js';
export { type MergeAdaptersInput, type MergeAdaptersOptions, mergeAdapters, mergeOptions as mergeAdaptersOptions } from './merge/method.js';
export { type HeldCodes, type RunMemory, runMemory, type TrainingRun } from './run-memory.js';
