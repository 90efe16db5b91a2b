// @lowbit/quad: rotations of the residual stream, with an outlier subspace in full precision, and rounded activations.

export { activations } from './activations-method.js';
export { type BasisKind, energyCaptured } from './basis/basis.js';
export { type GramOptions, type GramSite, type ResidualGram, residualGram } from './basis/gram.js';
export { compensate } from './compensate/method.js';
export { type CompensateInput, type CompensateOptions, compensateOptions } from './compensate/options.js';
export { experiments } from './experiments/index.js';
export type { FoldSettings, InnerRotations } from './fold/linears.js';
export { type ModelSettings, rotatedModel } from './fold/model.js';
export type { AxisRotation, Fallback } from './isometry/axis-rotation.js';
export { Isometry, type Layout, type OutlierSpace, type SplitFeatures } from './isometry/isometry.js';
export { type Reflections, reflections } from './isometry/reflections.js';
export { channelShares, type InputMagnitudes, inputMagnitudes } from './magnitudes.js';
export {
  type ActivationsInput,
  type ActivationsOptions,
  activationsOptions,
  type QuadInput,
  type QuadOptions,
  quadOptions,
  type RotateInput,
  type RotateOptions,
  rotateOptions,
} from './options.js';
export { quad } from './quad-method.js';
export { rotate } from './rotate-method.js';
export * from './spectrum/index.js';
export { type Basis, chooseBasis } from './transform.js';
export { tune } from './tune/method.js';
export { type TuneInput, type TuneOptions, tuneOptions } from './tune/options.js';
