// @lowbit/pipeline: runs recipes over models, block by block.
export { estimateRun, type RunEstimate, type StepEstimate } from './estimate.js';
export type { EstimateOptions, WindowCounts } from './estimate-options.js';
export { type EngineRates, measureRates, secondsOf } from './estimate-time.js';
export { compileGlob } from './globs.js';
export { checkRecipe } from './plan.js';
export { canBeginAfter, type QuantizeOptions, type QuantizeResult, quantize } from './quantize.js';
export type { NearestRounding, Propagation } from './run.js';
export { holdsRun } from './run-storage.js';
export { aimsAtTask } from './task.js';
