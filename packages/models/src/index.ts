// @lowbit/models: model families built from checkpoints, and generation with a key-value cache.
export { cachedAttention, type NewPosition } from './cached-attention.js';
export { type DensifyOptions, densify } from './densify.js';
export type { Architecture, Family } from './family.js';
export { type GeneratedToken, type GenerateOptions, generate } from './generate.js';
export { type IntegerExecution, integerExecution, type SimulatedLinear } from './integer-execution.js';
export { LlamaBlock, type LlamaBlockParts, type LlamaBlockSettings, llamaGroups, type PositionLimit } from './llama-block.js';
export { families, type LoadModelOptions, loadModel, modelConfig } from './load-model.js';
export { type PositionTable, PositionTables, type RotaryScaling, type RotarySettings, rotaryFrequencies } from './position-tables.js';
export { type SamplingLimits, sampleToken } from './sampling.js';
