// The operators, as functions that build graph nodes.
export { expand } from './apply.js';
export { attention, causalMask, causalMaskValues, rope } from './attention.js';
export type {
  CompositeDefinition,
  CompositeName,
  OpName,
  PrimitiveDefinition,
  PrimitiveName,
  ReferenceArray,
  TensorType,
} from './definition.js';
export {
  abs,
  add,
  cast,
  clip,
  constant,
  cos,
  detach,
  div,
  equal,
  erf,
  exp,
  floor,
  greater,
  greaterEqual,
  less,
  lessEqual,
  log,
  maximum,
  minimum,
  mul,
  neg,
  type Operand,
  pow,
  reciprocal,
  round,
  roundHalfEven,
  sigmoid,
  sign,
  sin,
  sqrt,
  square,
  straightThrough,
  sub,
  tanh,
  where,
} from './elementwise.js';
export { type IntegerMatmulBits, integerMatmul, largestCodeProduct } from './integer.js';
export { crossEntropy, klDivergence } from './loss.js';
export { linear, type MatmulOptions, matmul } from './matmul.js';
export { broadcastTo, concat, gather, pad, range, reshape, scatterAdd, slice, takeAlongLast, transpose } from './movement.js';
export { gelu, geluTanh, layerNorm, relu, rmsNorm, silu } from './normalization.js';
export { type BitPlanes, bitPlanes, type PlaneLayout, packedMatmul, packedRowBytes, packedTileRows, unpackPlanes } from './packed.js';
export { dequantize, hadamard, quantizedMatmul } from './quantized.js';
export { argmax, logSoftmax, logSumExp, max, mean, softmax, sum } from './reduce.js';
export { composites, ops, primitives } from './table.js';
