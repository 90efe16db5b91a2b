// The affine quantized weight: codes, scales, and where zero lies.
import {
  cast,
  dequantize,
  formatShape,
  LowbitError,
  mul,
  neg,
  type Shape,
  sameShape,
  type Tensor,
  type TensorMap,
  tensor,
} from '@lowbit/core';
import type { Grid, ZeroKind } from './grid.js';
import { type ScaleDtype, symmetricZero } from './range.js';

export interface AffineParts {
  /** 1 to 8. */
  readonly bits: number;
  /**
   * uint8 [out, in], 0 … 2^bits − 1. An expression may be float32, between and beyond the points of the grid: a perturbed weight, which
   * computes and is not stored.
   */
  readonly codes: Tensor;
  /** float32 [out, groups]. */
  readonly scale: Tensor;
  /** uint8 [out, groups]: the code that stands for 0. */
  readonly zeroPoint?: Tensor | undefined;
  /** float32 [out, groups]: what code 0 stands for. Without it and `zeroPoint` the weight is symmetric. */
  readonly offset?: Tensor | undefined;
  /**
   * How scale and offset are stored. 'float16' is a promise that every value fits it; parameters that were trained keep 'float32'
   * until they have been rounded.
   */
  readonly scaleDtype: ScaleDtype;
}

const bitsPerScale: Readonly<Record<ScaleDtype, number>> = { float16: 16, float32: 32 };

/**
 * w = scale · code + offset, for groups of consecutive inputs of one output row. The offset is −scale · 2^(bits−1) (symmetric; −scale/2
 * at one bit), −scale · zeroPoint (integer), or free (decoupleQ, arXiv 2404.12759). Immutable; tensors may be leaves or expressions.
 */
export class AffineWeight {
  readonly bits: number;
  readonly codes: Tensor;
  readonly scale: Tensor;
  readonly zeroPoint: Tensor | undefined;
  /** The free offset; see `effectiveOffset` for every kind. */
  readonly offset: Tensor | undefined;
  readonly scaleDtype: ScaleDtype;

  /** @throws AFFINE_WEIGHT when the parts do not fit together. */
  constructor(parts: AffineParts) {
    checkParts(parts);
    this.bits = parts.bits;
    this.codes = parts.codes;
    this.scale = parts.scale;
    this.zeroPoint = parts.zeroPoint;
    this.offset = parts.offset;
    this.scaleDtype = parts.scaleDtype;
  }

  /** Codes on a grid. The arrays are not copied. */
  static fromGrid(codes: Uint8Array, grid: Grid): AffineWeight {
    const perGroup = [grid.outFeatures, grid.inFeatures / grid.groupSize];
    return new AffineWeight({
      bits: grid.bits,
      codes: tensor(codes, [grid.outFeatures, grid.inFeatures]),
      scale: tensor(grid.scale, perGroup),
      zeroPoint: grid.zeroPoint && tensor(grid.zeroPoint, perGroup),
      offset: grid.zeroKind === 'free' ? tensor(grid.offset, perGroup) : undefined,
      scaleDtype: grid.scaleDtype,
    });
  }

  get outFeatures(): number {
    return this.codes.shape[0];
  }

  get inFeatures(): number {
    return this.codes.shape[1];
  }

  /** Inputs that share a scale. */
  get groupSize(): number {
    return this.inFeatures / this.scale.shape[1];
  }

  get zeroKind(): ZeroKind {
    return this.offset ? 'free' : this.zeroPoint ? 'integer' : 'symmetric';
  }

  /** Bits of codes, scales, and zero points or offsets. */
  get storageBits(): number {
    const floats = this.scale.size * (this.offset ? 2 : 1);
    const zeroPoints = this.zeroPoint ? this.zeroPoint.size : 0;
    return (this.codes.size + zeroPoints) * this.bits + floats * bitsPerScale[this.scaleDtype];
  }

  /** What code 0 stands for, [out, groups]; for symmetric and integer zeros an expression through which gradients reach the scale. */
  get effectiveOffset(): Tensor {
    if (this.offset) return this.offset;
    if (this.zeroPoint) return neg(mul(this.scale, cast(this.zeroPoint, 'float32')));
    return mul(this.scale, -symmetricZero(this.bits));
  }

  /** The weight that the codes stand for: an expression, float32 [out, in]. */
  dequantized(): Tensor {
    return dequantize(this.codes, this.scale, this.effectiveOffset);
  }

  /** The weight with some parts replaced. */
  with(parts: Partial<AffineParts>): AffineWeight {
    const { bits, codes, scale, zeroPoint, offset, scaleDtype } = this;
    return new AffineWeight({ bits, codes, scale, zeroPoint, offset, scaleDtype, ...parts });
  }

  map(map: TensorMap): AffineWeight {
    return this.with({
      codes: map(this.codes, 'codes'),
      scale: map(this.scale, 'scale'),
      zeroPoint: this.zeroPoint && map(this.zeroPoint, 'zeroPoint'),
      offset: this.offset && map(this.offset, 'offset'),
    });
  }
}

function checkParts({ bits, codes, scale, zeroPoint, offset }: AffineParts): void {
  const fail = (problem: string): never => {
    throw new LowbitError('AFFINE_WEIGHT', `an affine weight of ${bits} bits: ${problem}`);
  };
  if (!(Number.isInteger(bits) && bits >= 1 && bits <= 8)) fail('bits must be an integer from 1 to 8');
  const hasCodes = codes.dtype === 'uint8' || (codes.dtype === 'float32' && !codes.isLeaf);
  if (!hasCodes || codes.rank !== 2) fail(`codes must be uint8 [out, in], got ${codes.dtype} ${formatShape(codes.shape)}`);
  const [out, inFeatures] = codes.shape;
  const grouping: Shape = scale.shape;
  if (scale.dtype !== 'float32' || scale.rank !== 2 || grouping[0] !== out || inFeatures % grouping[1] !== 0) {
    fail(`scale must be float32 [out, groups] for codes ${formatShape(codes.shape)}, got ${scale.dtype} ${formatShape(grouping)}`);
  }
  if (zeroPoint && offset) fail('it has a zero point and a free offset; give one of them');
  if (zeroPoint && (zeroPoint.dtype !== 'uint8' || !sameShape(zeroPoint.shape, grouping))) {
    fail(`zeroPoint must be uint8 ${formatShape(grouping)}, got ${zeroPoint.dtype} ${formatShape(zeroPoint.shape)}`);
  }
  if (offset && (offset.dtype !== 'float32' || !sameShape(offset.shape, grouping))) {
    fail(`offset must be float32 ${formatShape(grouping)}, got ${offset.dtype} ${formatShape(offset.shape)}`);
  }
}
