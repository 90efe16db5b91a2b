// A quantized layer that holds its codes packed, for training and inference in little memory.
import {
  add,
  type DenseLinear,
  type Linear,
  type LinearState,
  lazyTensor,
  packedMatmul,
  read,
  type Tensor,
  type TensorMap,
  tensor,
} from '@lowbit/core';
import type { AffineParts, AffineWeight } from './affine-weight.js';
import { packRows, unpackRows } from './packed-rows.js';
import { QuantizedLinear } from './quantized-linear.js';

/**
 * The same layer as a `QuantizedLinear`, to the bit, with `bits` bits in memory for each code. Its weight never exists dequantized but some
 * rows at a time within an evaluation, in the forward and in the backward pass (EMEF, arXiv 2306.08162). It is stored as the layer
 * it was made from.
 */
export class PackedLinear implements Linear {
  readonly kind = 'affine';
  /** uint8 [out, bytes of a packed row]. */
  readonly packed: Tensor;
  /** The layer with codes that are unpacked each time they are read. */
  readonly unpacked: QuantizedLinear;

  private constructor(packed: Tensor, { weight, bias }: QuantizedLinear) {
    const { bits, inFeatures, outFeatures } = weight;
    const load = async (): Promise<Uint8Array> => unpackRows((await read(packed)) as Uint8Array, { bits, inFeatures });
    this.packed = packed;
    this.unpacked = new QuantizedLinear(weight.with({ codes: lazyTensor([outFeatures, inFeatures], 'uint8', load) }), bias);
  }

  /** Packs the codes of a layer, which may lie in a file. */
  static async of(linear: QuantizedLinear): Promise<PackedLinear> {
    const { bits, codes, inFeatures, outFeatures } = linear.weight;
    const packed = packRows((await read(codes)) as Uint8Array, { bits, inFeatures });
    return new PackedLinear(tensor(packed, [outFeatures, packed.length / outFeatures]), linear);
  }

  /** Scale and zero of the codes. */
  get weight(): AffineWeight {
    return this.unpacked.weight;
  }

  get inFeatures(): number {
    return this.unpacked.inFeatures;
  }

  get outFeatures(): number {
    return this.unpacked.outFeatures;
  }

  get storageBits(): number {
    return this.unpacked.storageBits;
  }

  forward(x: Tensor): Tensor {
    const { scale, effectiveOffset, bits } = this.weight;
    const y = packedMatmul(x, this.packed, scale, effectiveOffset, { bits });
    return this.unpacked.bias ? add(y, this.unpacked.bias) : y;
  }

  effectiveWeight(): Tensor {
    return this.unpacked.effectiveWeight();
  }

  withWeight(weight: Tensor): DenseLinear {
    return this.unpacked.withWeight(weight);
  }

  map(map: TensorMap): PackedLinear {
    const { scale, zeroPoint, offset } = this.weight;
    const packed = map(this.packed, 'packed');
    const parts: Partial<AffineParts> = {
      scale: map(scale, 'scale'),
      zeroPoint: zeroPoint && map(zeroPoint, 'zeroPoint'),
      offset: offset && map(offset, 'offset'),
    };
    const bias = this.unpacked.bias && map(this.unpacked.bias, 'bias');
    return new PackedLinear(packed, new QuantizedLinear(this.weight.with(parts), bias));
  }

  state(): LinearState {
    return this.unpacked.state();
  }
}
