// @lowbit/quant: quantized weights, grids, packing, the Linears that hold them, and the GPTQ solver.
export { ActivationQuantizedLinear } from './activation-quantized-linear.js';
export { type ActivationOptions, quantizeActivations } from './activations.js';
export { type AffineParts, AffineWeight } from './affine-weight.js';
export * from './corrections/index.js';
export {
  type GptqFactor,
  type GptqFactorOptions,
  type GptqGrid,
  type GptqResult,
  type GptqSolveOptions,
  gptqCodes,
  gptqFactor,
  gptqSolve,
  relativeGramError,
} from './gptq.js';
export { dequantizeCodes, fitGrid, type Grid, type GridOptions, nearestCode, roundToGrid, type ZeroKind } from './grid.js';
export { checkGroups, type GroupedLayer, resolveGroupSize } from './groups.js';
export { halfRounded } from './half-rounded.js';
export { type IntegerForm, integerForm, runsInIntegers } from './integer-form.js';
export { IntegerLinear } from './integer-linear.js';
export { keyValuesSchema, parseKeyValues, quantizeKeyValues } from './key-values.js';
export { bitsPerWeight, linearKinds } from './linear-kinds.js';
export { LowRankLinear, type LowRankParts } from './low-rank-linear.js';
export {
  bitsOption,
  clipOption,
  gridOptions,
  groupSizeOption,
  scaleDtypeOption,
  symmetricOption,
} from './options.js';
export { PackedLinear } from './packed-linear.js';
export { packRows, unpackRows } from './packed-rows.js';
export { packCodes, packedLength, unpackCodes } from './packing.js';
export { quantizeWeight } from './quantize-weight.js';
export { QuantizedLinear } from './quantized-linear.js';
export { type RangeOptions, type ScaleDtype, smallestScale, symmetricZero } from './range.js';
export { RotatedLinear, type RotatedParts } from './rotated-linear.js';
export { type HadamardRotation, hadamardRotation, type MatrixRotation, type Rotation, rotateFeatures } from './rotation.js';
export { SplitLinear, type SplitParts } from './split-linear.js';
