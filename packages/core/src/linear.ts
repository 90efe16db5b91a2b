// Linear layers: what every weight representation offers to models, methods, checkpoints and exporters.
import { LowbitError } from './errors.js';
import { add, linear as linearOp } from './ops/index.js';
import { formatShape } from './shape.js';
import type { Tensor } from './tensor.js';

/** Renames or replaces a tensor while a tree is rebuilt; `name` is the tensor's path below the tree. */
export type TensorMap = (tensor: Tensor, name: string) => Tensor;

/** What a Linear is made of, as plain data: the checkpoint writer stores it, `restore` functions rebuild from it. */
export interface LinearState {
  readonly kind: string;
  /** JSON settings: bits, group size, … */
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly tensors: Readonly<Record<string, Tensor>>;
  /** Bits per element of tensors that are stored packed (codes, zero points). */
  readonly packedBits?: Readonly<Record<string, number>>;
  /** Stored as float16 because every value is representable in it (scales, offsets). */
  readonly half?: readonly string[];
  /** Wrapped Linears by role: `base` of a low-rank correction. */
  readonly parts?: Readonly<Record<string, LinearState>>;
}

/** The part of a wrapping Linear that a weight quantizer works on. */
export interface QuantizablePart {
  readonly linear: Linear;
  /**
   * What the wrapper makes of its input before the part reads features of it: [..., inFeatures] → [..., any] (an online rotation, as
   * QuaRot's, arXiv 2404.00456). Rounding activations is left out. Absent: the input as it is.
   */
  readonly reads?: ((x: Tensor) => Tensor) | undefined;
  /** Which features the part reads: [start, end). The others stay in full precision (QUAD's outlier columns). */
  readonly start: number;
  readonly end: number;
  /** The wrapper around another part. */
  replace(linear: Linear): Linear;
}

/** y = x Wᵀ + b in some representation. Concrete classes are final and immutable; corrections wrap. */
export interface Linear {
  /** Representation: 'dense', 'affine', 'low-rank', … */
  readonly kind: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** Bits of everything this layer stores except its bias: codes, scales, offsets, adapters. */
  readonly storageBits: number;
  /**
   * What a weight quantizer gets in place of the whole layer, for wrappers whose inner layer is still to be quantized (activation
   * quantization, full-precision columns). Absent: the layer itself. The runner unwraps, so that methods need not know wrappers.
   */
  readonly quantizable?: QuantizablePart | undefined;
  /** [..., inFeatures] → [..., outFeatures]. */
  forward(x: Tensor): Tensor;
  /**
   * W of y = x Wᵀ + b as a graph, [out, in], corrections included. What the layer does to its input before the product
   * (quantizing activations) is left out. Error measures, low-rank corrections and dense exports read it.
   */
  effectiveWeight(): Tensor;
  /**
   * The layer with a dense float32 weight [out, in] in place of `effectiveWeight()`; bias and what it does to its input stay. With
   * the evaluated effective weight it computes the same without dequantizing each time.
   */
  withWeight(weight: Tensor): Linear;
  /** The same layer with every tensor replaced by `map(tensor, name)`. */
  map(map: TensorMap): Linear;
  state(): LinearState;
}

/** What a weight quantizer works on in this Linear: the part that its wrappers name, or all of it. */
export function quantizablePart(linear: Linear): QuantizablePart {
  return linear.quantizable ?? { linear, start: 0, end: linear.inFeatures, replace: (replacement) => replacement };
}

/** Rebuilds a Linear from its state; one per kind. `restore` rebuilds wrapped parts. */
export type LinearRestorer = (state: LinearState, restore: (state: LinearState) => Linear) => Linear;

/** Restorers by kind. @lowbit/quant exports those of the built-in kinds; a plugin with a kind of its own exports one more. */
export type LinearKinds = Readonly<Record<string, LinearRestorer>>;

/** A full-precision layer: weight [out, in], bias [out] or none. */
export class DenseLinear implements Linear {
  readonly kind = 'dense';
  readonly weight: Tensor;
  readonly bias: Tensor | undefined;
  /** Bits per weight as stored in the checkpoint it came from (16 for bf16 and f16). */
  readonly bitsPerElement: number;

  constructor(weight: Tensor, bias?: Tensor, bitsPerElement = 16) {
    if (weight.rank !== 2)
      throw new LowbitError('SHAPE_WEIGHT', `a dense layer's weight must be [out, in], got ${formatShape(weight.shape)}`);
    if (bias && (bias.rank !== 1 || bias.size !== weight.shape[0])) {
      throw new LowbitError('SHAPE_BIAS', `bias ${formatShape(bias.shape)} does not fit weight ${formatShape(weight.shape)}`);
    }
    this.weight = weight;
    this.bias = bias;
    this.bitsPerElement = bitsPerElement;
  }

  get inFeatures(): number {
    return this.weight.shape[1];
  }

  get outFeatures(): number {
    return this.weight.shape[0];
  }

  get storageBits(): number {
    return this.weight.size * this.bitsPerElement;
  }

  forward(x: Tensor): Tensor {
    const y = linearOp(x, this.weight);
    return this.bias ? add(y, this.bias) : y;
  }

  effectiveWeight(): Tensor {
    return this.weight;
  }

  withWeight(weight: Tensor): DenseLinear {
    return new DenseLinear(weight, this.bias, this.bitsPerElement);
  }

  map(map: TensorMap): DenseLinear {
    return new DenseLinear(map(this.weight, 'weight'), this.bias && map(this.bias, 'bias'), this.bitsPerElement);
  }

  state(): LinearState {
    return {
      kind: this.kind,
      attributes: { bitsPerElement: this.bitsPerElement },
      tensors: { weight: this.weight, ...(this.bias && { bias: this.bias }) },
    };
  }
}

/** Rebuilds a dense layer from its state. */
export const restoreDense: LinearRestorer = (state) =>
  new DenseLinear(state.tensors.weight, state.tensors.bias, (state.attributes.bitsPerElement as number | undefined) ?? 16);

/**
 * The layer as a dense one, for methods that quantize from full precision.
 * @throws LINEAR_NOT_DENSE naming the path when it is quantized already.
 */
export function requireDense(linear: Linear, path: string): DenseLinear {
  if (linear instanceof DenseLinear) return linear;
  throw notDense(linear.kind, path);
}

/** The same by shape alone, for a method's `check`. @throws LINEAR_NOT_DENSE naming the path when it is quantized already. */
export function checkDense({ kind, path }: { readonly kind: string; readonly path: string }): void {
  if (kind !== 'dense') throw notDense(kind, path);
}

function notDense(kind: string, path: string): LowbitError {
  return new LowbitError('LINEAR_NOT_DENSE', `${path}: is already '${kind}'; narrow this step's targets or move it earlier in the recipe`);
}

/** Rebuilds any Linear from its state. @throws LINEAR_KIND when no restorer knows its kind. */
export function restoreLinear(state: LinearState, kinds: LinearKinds): Linear {
  const restorer = state.kind === 'dense' ? restoreDense : kinds[state.kind];
  if (!restorer) {
    throw new LowbitError(
      'LINEAR_KIND',
      `no restorer for linear kind '${state.kind}'; known: dense, ${Object.keys(kinds).join(', ')}. Pass the kinds of the plugin that made it`,
    );
  }
  return restorer(state, (part) => restoreLinear(part, kinds));
}
