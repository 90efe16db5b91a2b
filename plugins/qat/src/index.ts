// @lowbit/qat: quantization-aware fine-tuning with learned scales and offsets.
export { qatBlocks } from './blocks/method.js';
export { type QatBlocksInput, type QatBlocksOptions, qatBlocksOptions } from './blocks/options.js';
export { experiments } from './experiments/index.js';
export { qat } from './method.js';
export { type QatInput, type QatOptions, qatOptions } from './options.js';
export { type Prepared, type PrepareRequest, prepareBlock, prepareModel } from './prepare.js';
export type { WeightOptions } from './quantizer/select.js';
