// @lowbit/core: tensors, operators, gradients, and the contracts that models, methods and backends meet in.
export type { Backend, BackendStatistics, EvaluateOptions } from './backend.js';
export { type Batches, batchesOf, type TokenBatches } from './batches.js';
export type {
  AttentionCache,
  AttentionLayout,
  Block,
  BlockParts,
  BlockTrace,
  DecodeResult,
  KeyValueQuantization,
  LinearGroup,
} from './block.js';
export { arrayTypes, bytesPerElement, type DType, dtypeOf, type TypedArray } from './dtype.js';
export { Embedding, type PositionEmbedding } from './embedding.js';
export { LowbitError, throwIfAborted } from './errors.js';
export type { EvaluationContext, Evaluator, Score } from './evaluator.js';
export type { RunEvent } from './events.js';
export type {
  ArmOutcome,
  ClaimVerdict,
  ComputedExperiment,
  Experiment,
  ExperimentArm,
  ExperimentClaim,
  ExperimentContext,
  ExperimentModel,
  ExperimentRow,
  ExperimentTable,
  ExperimentTask,
  ExperimentValue,
  RecipeExperiment,
  SampleRequest,
  SampleText,
  StepReference,
  StudyContext,
  StudyExperiment,
  StudyText,
} from './experiment.js';
export type { ExportContext, Exporter } from './exporter.js';
export { grad } from './grad.js';
export {
  bfloat16Bits,
  bfloat16FromBits,
  decodeBfloat16,
  decodeFloat16,
  encodeBfloat16,
  encodeFloat16,
  fitsBfloat16,
  fitsFloat16,
  float16Bits,
  float16FromBits,
  roundToBfloat16,
  roundToFloat16,
} from './half.js';
export {
  checkDense,
  DenseLinear,
  type Linear,
  type LinearKinds,
  type LinearRestorer,
  type LinearState,
  type QuantizablePart,
  quantizablePart,
  requireDense,
  restoreDense,
  restoreLinear,
  type TensorMap,
} from './linear.js';
export {
  type BlockContext,
  type Cost,
  DEFAULT_TARGETS,
  defineMethod,
  type FinetuneAim,
  type FinetuneContext,
  type LinearContext,
  type LinearShape,
  type Method,
  type MethodContext,
  type MethodDefinition,
  type Recipe,
  type Step,
  type StepSettings,
  type TransformContext,
  type Workload,
} from './method.js';
export { type CheckpointLayout, Model, type ModelConfig, type ModelParts, materialize, tensorsOf } from './model.js';
export { Norm } from './norm.js';
export * from './ops/index.js';
export { createRng, philox, type Rng } from './rng.js';
export { broadcastShapes, formatShape, resolveAxis, type Shape, sameShape, sizeOf, stridesOf } from './shape.js';
export { absmax, energy, flattenRows, gram, peakMeanMagnitude, type Statistic } from './statistic.js';
export { memoryStore, type Store, type StoreEntry } from './store.js';
export { lastUses, type Structure, type StructureOptions, structureOf } from './structure.js';
export type { FinetuneTask, TaskExamples } from './task.js';
export { type Attributes, type Expression, type LeafSource, lazyTensor, read, readFloats, readNumber, Tensor, tensor } from './tensor.js';
