// A layer of quantized weights and activations that multiplies the codes themselves.
import {
  add,
  cast,
  constant,
  integerMatmul,
  type Linear,
  type LinearState,
  LowbitError,
  largestCodeProduct,
  mul,
  type QuantizablePart,
  reshape,
  straightThrough,
  sub,
  sum,
  type Tensor,
  type TensorMap,
} from '@lowbit/core';
import type { ActivationQuantizedLinear } from './activation-quantized-linear.js';
import { activationCodes } from './activations.js';
import type { AffineWeight } from './affine-weight.js';
import { LowRankLinear } from './low-rank-linear.js';
import { QuantizedLinear } from './quantized-linear.js';
import { symmetricZero } from './range.js';

/** A token's codes and what they stand for. */
interface QuantizedInput {
  readonly bits: number;
  /** float32 [rows, in], integers. */
  readonly codes: Tensor;
  /** float32 [rows, 1]. */
  readonly scale: Tensor;
  /** codes · scale, [rows, in]. */
  readonly rounded: Tensor;
}

/**
 * The same layer as an `ActivationQuantizedLinear` whose tokens and weight rows have one scale each, with products and sums in integers:
 * y = s_x · s_w · Σ q (c − zero) + b, where the simulated layer multiplies the floats that the codes stand for. Both round activations
 * to the same codes and differ by the rounding of float32 sums alone. Gradients are the simulated layer's; it is stored as that layer.
 */
export class IntegerLinear implements Linear {
  readonly kind = 'activation-quantized';
  readonly simulated: ActivationQuantizedLinear;

  /** @throws INTEGER_LAYER when the layer cannot be computed in integers, with the reason (`integerObstacle`). */
  constructor(simulated: ActivationQuantizedLinear) {
    const obstacle = integerObstacle(simulated);
    if (obstacle !== undefined) throw new LowbitError('INTEGER_LAYER', `a layer cannot be computed in integers: ${obstacle}`);
    this.simulated = simulated;
  }

  get inFeatures(): number {
    return this.simulated.inFeatures;
  }

  get outFeatures(): number {
    return this.simulated.outFeatures;
  }

  get storageBits(): number {
    return this.simulated.storageBits;
  }

  get quantizable(): QuantizablePart {
    return this.simulated.quantizable;
  }

  forward(x: Tensor): Tensor {
    const { simulated, inFeatures, outFeatures } = this;
    const rows = x.size / inFeatures;
    const parts = activationCodes(x, simulated);
    const [codes, scale] = [reshape(parts.codes, [rows, inFeatures]), reshape(parts.scale, [rows, 1])];
    const y = productOf(simulated.base, { bits: simulated.bits, codes, scale, rounded: mul(codes, scale) });
    return straightThrough(reshape(y, [...x.shape.slice(0, -1), outFeatures]), simulated.forward(x));
  }

  effectiveWeight(): Tensor {
    return this.simulated.effectiveWeight();
  }

  withWeight(weight: Tensor): ActivationQuantizedLinear {
    return this.simulated.withWeight(weight);
  }

  map(map: TensorMap): IntegerLinear {
    return new IntegerLinear(this.simulated.map(map));
  }

  state(): LinearState {
    return this.simulated.state();
  }
}

/** Why `IntegerLinear` cannot compute a layer; undefined when it can. */
export function integerObstacle({ base, bits, groupSize, inFeatures }: ActivationQuantizedLinear): string | undefined {
  if (bits > 8) return `its input has ${bits} bits, and codes in integers have at most 8`;
  if (groupSize !== -1 && groupSize !== inFeatures) return `its input has a scale for every ${groupSize} features instead of one a token`;
  const inner = uncorrected(base);
  if (!(inner instanceof QuantizedLinear)) return `its weight is not quantized or packed in memory (kind '${inner.kind}')`;
  const { weight } = inner;
  if (weight.groupSize !== inFeatures) return `its weight has a scale for every ${weight.groupSize} inputs instead of one an output`;
  const isTooLong = inFeatures * largestCodeProduct({ inputBits: bits, weightBits: weight.bits }) >= 2 ** 31;
  return isTooLong ? `its sums over ${inFeatures} inputs can leave 32 bits` : undefined;
}

function uncorrected(linear: Linear): Linear {
  return linear instanceof LowRankLinear ? uncorrected(linear.base) : linear;
}

/** What a base that `integerObstacle` lets pass gives, [rows, out]. */
function productOf(base: Linear, input: QuantizedInput): Tensor {
  if (base instanceof LowRankLinear) return add(productOf(base.base, input), base.correct(input.rounded));
  const { weight, bias } = base as QuantizedLinear;
  const y = mul(overScale(weight, input), input.scale);
  return bias ? add(y, bias) : y;
}

/** x̂ · wᵀ / s_x, [rows, out]. An integer zero is taken off before anything is rounded. */
function overScale(weight: AffineWeight, { bits, codes }: QuantizedInput): Tensor {
  const perOutput = (t: Tensor): Tensor => reshape(t, [1, weight.outFeatures]);
  const products = integerMatmul(cast(codes, 'int8'), weight.codes, { inputBits: bits, weightBits: weight.bits });
  const total = sum(cast(codes, 'int32'), [-1], true);
  const zero = integerZero(weight);
  const scale = perOutput(weight.scale);
  if (zero) return mul(cast(sub(products, mul(total, zero)), 'float32'), scale);
  return add(mul(cast(products, 'float32'), scale), mul(cast(total, 'float32'), perOutput(weight.effectiveOffset)));
}

/** The code that stands for 0, int32 [1, out] or one for all; undefined where none does (free offsets, one bit). */
function integerZero({ bits, outFeatures, zeroPoint, zeroKind }: AffineWeight): Tensor | undefined {
  if (zeroPoint) return cast(reshape(zeroPoint, [1, outFeatures]), 'int32');
  return zeroKind === 'symmetric' && bits > 1 ? constant(symmetricZero(bits), 'int32') : undefined;
}
