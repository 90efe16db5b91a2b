// @lowbit/pipeline: runs recipes over models, block by block.
export { compileGlob } from './globs.js';
export { checkRecipe } from './plan.js';
export { canBeginAfter, type QuantizeOptions, type QuantizeResult, quantize } from './quantize.js';
export type { NearestRounding, Propagation } from './run.js';
export { aimsAtTask } from './task.js';
