// @lowbit/models: model families built from checkpoints, and generation with a key-value cache.
export {
  type AttentionPositions,
  RotaryPositions,
  type RotaryScaling,
  type RotarySettings,
  type Rotate,
  rotaryFrequencies,
  StreamPositions,
} from './attention-positions.js';
export {
  type BlockDesign,
  type BlockSettings,
  type DesignedHalf,
  designedGroups,
  type HeadGeometry,
  type PositionLimit,
} from './block-design.js';
export { cachedAttention, type NewPosition } from './cached-attention.js';
export { DecoderBlock, type DecoderBlockParts } from './decoder-block.js';
export { type DensifyOptions, densify } from './densify.js';
export type { Architecture, Family } from './family.js';
export { type GeneratedToken, type GenerateOptions, generate } from './generate.js';
export { type IntegerExecution, integerExecution, type SimulatedLinear } from './integer-execution.js';
export { llamaDesign } from './llama-family.js';
export { families, type LoadModelOptions, loadModel, modelConfig } from './load-model.js';
export { type SamplingLimits, sampleToken } from './sampling.js';
