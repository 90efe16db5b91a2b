// A linear layer over an affine quantized weight.
import {
  add,
  DenseLinear,
  formatShape,
  type Linear,
  type LinearRestorer,
  type LinearState,
  LowbitError,
  quantizedMatmul,
  type Tensor,
  type TensorMap,
} from '@lowbit/core';
import { z } from 'zod';
import { AffineWeight } from './affine-weight.js';
import { parseAttributes, requireTensor } from './linear-state.js';

/** y = x · dequantized(weight)ᵀ + b, kind 'affine'. */
export class QuantizedLinear implements Linear {
  readonly kind = 'affine';
  readonly weight: AffineWeight;
  readonly bias: Tensor | undefined;

  /** @throws SHAPE_BIAS when the bias is not [out]. */
  constructor(weight: AffineWeight, bias?: Tensor) {
    if (bias && (bias.rank !== 1 || bias.size !== weight.outFeatures)) {
      throw new LowbitError('SHAPE_BIAS', `bias ${formatShape(bias.shape)} does not fit codes ${formatShape(weight.codes.shape)}`);
    }
    this.weight = weight;
    this.bias = bias;
  }

  get inFeatures(): number {
    return this.weight.inFeatures;
  }

  get outFeatures(): number {
    return this.weight.outFeatures;
  }

  get storageBits(): number {
    return this.weight.storageBits;
  }

  forward(x: Tensor): Tensor {
    const { codes, scale, effectiveOffset, bits } = this.weight;
    const y = quantizedMatmul(x, codes, scale, effectiveOffset, { bits });
    return this.bias ? add(y, this.bias) : y;
  }

  effectiveWeight(): Tensor {
    return this.weight.dequantized();
  }

  withWeight(weight: Tensor): DenseLinear {
    return new DenseLinear(weight, this.bias);
  }

  map(map: TensorMap): QuantizedLinear {
    return new QuantizedLinear(this.weight.map(map), this.bias && map(this.bias, 'bias'));
  }

  state(): LinearState {
    const { bits, codes, scale, zeroPoint, offset, scaleDtype } = this.weight;
    return {
      kind: this.kind,
      attributes: { bits, scaleDtype },
      tensors: { codes, scale, ...(zeroPoint && { zeroPoint }), ...(offset && { offset }), ...(this.bias && { bias: this.bias }) },
      packedBits: { codes: bits, ...(zeroPoint && { zeroPoint: bits }) },
      half: scaleDtype === 'float16' ? ['scale', ...(offset ? ['offset'] : [])] : [],
    };
  }
}

const attributes = z.object({ bits: z.int().min(1).max(8), scaleDtype: z.enum(['float16', 'float32']) });

/** Rebuilds a `QuantizedLinear` from its state. */
export const restoreQuantized: LinearRestorer = (state) => {
  const { zeroPoint, offset, bias } = state.tensors;
  const codes = requireTensor(state, 'codes');
  const scale = requireTensor(state, 'scale');
  return new QuantizedLinear(new AffineWeight({ ...parseAttributes(state, attributes), codes, scale, zeroPoint, offset }), bias);
};
