// Linears for tests: affine codes over groups of inputs, nothing packed, and a low-rank correction that wraps.
import {
  add,
  DenseLinear,
  dequantize,
  type Linear,
  type LinearKinds,
  type LinearState,
  linear,
  matmul,
  quantizedMatmul,
  type Tensor,
  type TensorMap,
} from '@lowbit/core';

export interface AffineParts {
  /** int8 [out, in]. */
  readonly codes: Tensor;
  /** [out, groups]. */
  readonly scale: Tensor;
  readonly offset: Tensor;
  readonly bias?: Tensor | undefined;
}

export class AffineLinear implements Linear {
  readonly kind = 'test-affine';
  readonly parts: AffineParts;
  readonly bits: number;

  constructor(parts: AffineParts, bits: number) {
    this.parts = parts;
    this.bits = bits;
  }

  get inFeatures(): number {
    return this.parts.codes.shape[1];
  }

  get outFeatures(): number {
    return this.parts.codes.shape[0];
  }

  get storageBits(): number {
    return this.parts.codes.size * this.bits + this.parts.scale.size * 32;
  }

  forward(x: Tensor): Tensor {
    const { codes, scale, offset, bias } = this.parts;
    const y = quantizedMatmul(x, codes, scale, offset, { bits: this.bits });
    return bias ? add(y, bias) : y;
  }

  effectiveWeight(): Tensor {
    return dequantize(this.parts.codes, this.parts.scale, this.parts.offset);
  }

  withWeight(weight: Tensor): DenseLinear {
    return new DenseLinear(weight, this.parts.bias);
  }

  map(map: TensorMap): AffineLinear {
    const { codes, scale, offset, bias } = this.parts;
    const mapped = {
      codes: map(codes, 'codes'),
      scale: map(scale, 'scale'),
      offset: map(offset, 'offset'),
      bias: bias && map(bias, 'bias'),
    };
    return new AffineLinear(mapped, this.bits);
  }

  state(): LinearState {
    const { codes, scale, offset, bias } = this.parts;
    return {
      kind: this.kind,
      attributes: { bits: this.bits },
      tensors: { codes, scale, offset, ...(bias && { bias }) },
      packedBits: { codes: this.bits },
    };
  }
}

/** base(x) + x downᵀ upᵀ. */
export class AdaptedLinear implements Linear {
  readonly kind = 'test-adapted';
  readonly base: Linear;
  /** [rank, in]. */
  readonly down: Tensor;
  /** [out, rank]. */
  readonly up: Tensor;

  constructor(base: Linear, down: Tensor, up: Tensor) {
    this.base = base;
    this.down = down;
    this.up = up;
  }

  get inFeatures(): number {
    return this.base.inFeatures;
  }

  get outFeatures(): number {
    return this.base.outFeatures;
  }

  get storageBits(): number {
    return this.base.storageBits + 16 * (this.down.size + this.up.size);
  }

  forward(x: Tensor): Tensor {
    return add(this.base.forward(x), linear(linear(x, this.down), this.up));
  }

  effectiveWeight(): Tensor {
    return add(this.base.effectiveWeight(), matmul(this.up, this.down));
  }

  withWeight(weight: Tensor): Linear {
    return this.base.withWeight(weight);
  }

  map(map: TensorMap): AdaptedLinear {
    return new AdaptedLinear(
      this.base.map((t, name) => map(t, `base.${name}`)),
      map(this.down, 'down'),
      map(this.up, 'up'),
    );
  }

  state(): LinearState {
    return { kind: this.kind, attributes: {}, tensors: { down: this.down, up: this.up }, parts: { base: this.base.state() } };
  }
}

export const testKinds: LinearKinds = {
  'test-affine': ({ tensors: { codes, scale, offset, bias }, attributes }) =>
    new AffineLinear({ codes, scale, offset, bias }, attributes.bits as number),
  'test-adapted': ({ tensors: { down, up }, parts }, restore) => new AdaptedLinear(restore(parts!.base), down, up),
};
