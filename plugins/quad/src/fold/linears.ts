// The Linears of a block in the basis of a rotated residual stream, as expressions over their weights.
import { type AttentionLayout, type Block, DenseLinear, type Linear, type Norm, requireDense, reshape, type Tensor } from '@lowbit/core';
import { ActivationQuantizedLinear, RotatedLinear, SplitLinear } from '@lowbit/quant';
import { type AxisRotation, onlineRotation } from '../isometry/axis-rotation.js';
import type { Isometry } from '../isometry/isometry.js';
import type { FullPrecision } from './half.js';

/** Rotations inside a block, which the residual stream does not see. */
export interface InnerRotations {
  /** Of the features of each value head, on both sides of attention. */
  readonly withinHeads: AxisRotation;
  /** Of heads among each other, while the model runs; undefined: none. */
  readonly acrossHeads: AxisRotation | undefined;
  /** Of the inputs of the other Linears that write to the stream, while the model runs; undefined: none. */
  readonly hidden: AxisRotation | undefined;
}

/** How a rotated model rounds and stores. */
export interface FoldSettings {
  readonly isometry: Isometry;
  readonly inner: InnerRotations;
  readonly activationBits: number;
  readonly outputActivationBits: number;
  readonly clipRatio: number;
  readonly dtype: FullPrecision;
}

/** Transformed weights are stored in 32 bits until they are quantized. */
const DENSE_BITS = 32;

/** A Linear that reads the normalized stream: the norm's weight goes into its columns, then W T; the rest beside its outlier columns. */
export interface ReadingLinear {
  readonly name: string;
  /** [out, r], an expression; undefined at rank 0. */
  readonly outlier: Tensor | undefined;
  /** The layer with evaluated outlier columns. */
  with(outlier: Tensor | undefined): Linear;
}

/** W diag(γ) T, and values rotated within their heads. */
export function readingLinear(block: Block, name: string, norm: Norm, settings: FoldSettings): ReadingLinear {
  const dense = requireDense(block.linears[name], `${block.path}.${name}`);
  const { weight, bias } = name === block.attention.value ? rotatedValues(dense, block.attention, settings.inner.withinHeads) : dense;
  const { outlier, rest } = settings.isometry.input(weight, norm.weight);
  const inner = roundingInput(new DenseLinear(rest, bias, DENSE_BITS), settings.activationBits, settings.clipRatio);
  return {
    name,
    outlier,
    with: (columns) => (columns ? new SplitLinear({ outlier: columns, rest: inner, outlierDtype: settings.dtype }) : inner),
  };
}

/** Tᵀ W, with the inverse of what is rotated in front of it. */
export function writingLinear(block: Block, name: string, { isometry, inner, ...rounding }: FoldSettings): Linear {
  const dense = requireDense(block.linears[name], `${block.path}.${name}`);
  const { output, headCount, headDim } = block.attention;
  const isOutput = name === output;
  const offline = isOutput ? inHeads(dense.weight, [headCount, headDim], inner.withinHeads) : dense.weight;
  const online = isOutput ? inner.acrossHeads : inner.hidden;
  const weight = online ? acrossStretches(offline, online) : offline;
  const bias = dense.bias && isometry.vector(dense.bias);
  const base = new DenseLinear(isometry.output(weight), bias, DENSE_BITS);
  const rounded = roundingInput(base, rounding.outputActivationBits, rounding.clipRatio);
  return online ? new RotatedLinear({ base: rounded, rotation: onlineRotation(online) }) : rounded;
}

function roundingInput(linear: Linear, bits: number, clipRatio: number): Linear {
  return bits < 16 ? new ActivationQuantizedLinear(linear, { bits, clipRatio }) : linear;
}

/** Rows of a value projection, rotated within each key-value head, bias included. */
function rotatedValues(
  { weight, bias }: DenseLinear,
  layout: AttentionLayout,
  rotation: AxisRotation,
): { weight: Tensor; bias: Tensor | undefined } {
  const { keyValueHeadCount, headDim } = layout;
  const rotate = (x: Tensor): Tensor => reshape(rotation.apply(reshape(x, [keyValueHeadCount, headDim, x.size / x.shape[0]]), 1), x.shape);
  return { weight: rotate(weight), bias: bias && rotate(bias) };
}

/** Columns of a weight [out, heads · headDim], rotated within each head. */
function inHeads(weight: Tensor, [heads, headDim]: readonly [number, number], rotation: AxisRotation): Tensor {
  return reshape(rotation.apply(reshape(weight, [weight.shape[0] * heads, headDim]), 1), weight.shape);
}

/** Columns of a weight [out, size · inner]: stretches of `inner` are rotated among each other. */
function acrossStretches(weight: Tensor, rotation: AxisRotation): Tensor {
  const [out, inputs] = weight.shape;
  return reshape(rotation.apply(reshape(weight, [out, rotation.size, inputs / rotation.size]), 1), weight.shape);
}
