// The form of an operator's entry in the table.
import type { DType } from '../dtype.js';
import type { Shape } from '../shape.js';
import type { Attributes, Tensor } from '../tensor.js';

export interface TensorType {
  readonly shape: Shape;
  readonly dtype: DType;
}

interface GradientContext {
  readonly inputs: readonly Tensor[];
  readonly output: Tensor;
  /** Gradient of the loss with respect to the output, of the output's shape. */
  readonly upstream: Tensor;
  readonly attributes: Attributes;
}

/** Gradients with respect to each input, of the input's shape; undefined where none flows. */
export type GradientRule = (context: GradientContext) => readonly (Tensor | undefined)[];

/** Elements in float64 whatever the tensor's type, row-major. */
export interface ReferenceArray extends TensorType {
  readonly data: Float64Array;
}

/** Computes the output in float64, the oracle of every backend. */
type ReferenceKernel = (inputs: readonly ReferenceArray[], attributes: Attributes, output: TensorType) => Float64Array;

/** An operator that every backend implements. */
export interface PrimitiveDefinition {
  readonly kind: 'primitive';
  /** Shape and type of the output; throws when the inputs do not fit. */
  infer(inputs: readonly Tensor[], attributes: Attributes): TensorType;
  /** `null`: not differentiable, reaching it throws. */
  readonly gradient: GradientRule | null;
  readonly reference: ReferenceKernel;
}

/** An operator defined by its decomposition; a backend may run it as one kernel. */
export interface CompositeDefinition {
  readonly kind: 'composite';
  infer(inputs: readonly Tensor[], attributes: Attributes): TensorType;
  decompose(inputs: readonly Tensor[], attributes: Attributes): Tensor;
  /** Cheaper than differentiating the decomposition, where given. */
  readonly gradient?: GradientRule;
}

export type UnaryName = 'neg' | 'abs' | 'sign' | 'exp' | 'log' | 'sqrt' | 'sin' | 'cos' | 'tanh' | 'sigmoid' | 'erf' | 'floor' | 'round';
export type BinaryName = 'add' | 'sub' | 'mul' | 'div' | 'pow' | 'maximum' | 'minimum';
export type ComparisonName = 'equal' | 'less' | 'lessEqual';

export type PrimitiveName =
  | UnaryName
  | BinaryName
  | ComparisonName
  | 'constant'
  | 'causalMask'
  | 'where'
  | 'cast'
  | 'detach'
  | 'straightThrough'
  | 'sum'
  | 'max'
  | 'argmax'
  | 'softmax'
  | 'logSoftmax'
  | 'reshape'
  | 'transpose'
  | 'broadcastTo'
  | 'slice'
  | 'concat'
  | 'pad'
  | 'gather'
  | 'scatterAdd'
  | 'takeAlongLast'
  | 'matmul';

export type CompositeName =
  | 'rmsNorm'
  | 'layerNorm'
  | 'rope'
  | 'attention'
  | 'silu'
  | 'gelu'
  | 'geluTanh'
  | 'relu'
  | 'crossEntropy'
  | 'klDivergence'
  | 'dequantize'
  | 'quantizedMatmul'
  | 'unpackPlanes'
  | 'packedMatmul'
  | 'integerMatmul'
  | 'hadamard';

export type OpName = PrimitiveName | CompositeName;
