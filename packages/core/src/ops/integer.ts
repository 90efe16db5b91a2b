// The product of integer codes: exact sums, for layers whose weights and activations are both quantized.
import { LowbitError } from '../errors.js';
import { formatShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { apply } from './apply.js';
import type { CompositeDefinition } from './definition.js';
import { add, cast } from './elementwise.js';
import { matmul } from './matmul.js';
import { slice } from './movement.js';

/** How narrow the codes are, 1 to 8 bits: what a backend picks its kernel by. Codes beyond it give unspecified sums. */
export interface IntegerMatmulBits {
  /** Of x: codes −2^(inputBits−1) … 2^(inputBits−1) − 1. */
  readonly inputBits: number;
  /** Of the weight: codes 0 … 2^weightBits − 1. */
  readonly weightBits: number;
}

/** Integers up to here are exact in float32, and so is each sum of integers that stays below it, in any order. */
const EXACT_FLOAT = 2 ** 24;

/**
 * x · weightᵀ in integers: x int8 [rows, in], weight uint8 [out, in] → int32 [rows, out], exact. No gradient flows to codes.
 * @throws INTEGER_RANGE when a sum could leave int32: past 65 thousand inputs of 8 by 8 bits.
 */
export function integerMatmul(x: Tensor, weight: Tensor, { inputBits, weightBits }: IntegerMatmulBits): Tensor {
  return apply('integerMatmul', [x, weight], { inputBits, weightBits });
}

/** Largest magnitude of a product of two codes. */
export function largestCodeProduct({ inputBits, weightBits }: IntegerMatmulBits): number {
  return 2 ** (inputBits - 1) * (2 ** weightBits - 1);
}

function checkBits(bits: IntegerMatmulBits): void {
  for (const [name, value] of Object.entries(bits)) {
    if (Number.isInteger(value) && value >= 1 && value <= 8) continue;
    throw new LowbitError('BITS_RANGE', `integerMatmul: ${name} must be an integer from 1 to 8, got ${value}`);
  }
}

export const integerOps: Record<'integerMatmul', CompositeDefinition> = {
  integerMatmul: {
    kind: 'composite',
    infer: ([x, weight], attributes) => {
      const bits = attributes as unknown as IntegerMatmulBits;
      checkBits(bits);
      if (x.dtype !== 'int8' || weight.dtype !== 'uint8') {
        throw new LowbitError('DTYPE', `integerMatmul: expects int8 and uint8 codes, got ${x.dtype} and ${weight.dtype}; cast them first`);
      }
      if (x.rank !== 2 || weight.rank !== 2 || x.shape[1] !== weight.shape[1]) {
        const got = `${formatShape(x.shape)} and ${formatShape(weight.shape)}`;
        throw new LowbitError('SHAPE_MATMUL', `integerMatmul: expects [rows, in] and [out, in], got ${got}`);
      }
      const inputs = x.shape[1];
      if (inputs * largestCodeProduct(bits) >= 2 ** 31) {
        const widths = `${bits.inputBits} by ${bits.weightBits} bits`;
        throw new LowbitError('INTEGER_RANGE', `integerMatmul: sums over ${inputs} inputs of ${widths} can leave int32; split the inputs`);
      }
      return { shape: [x.shape[0], weight.shape[0]], dtype: 'int32' };
    },
    // As many inputs at a time as float32 sums without rounding.
    decompose: ([x, weight], attributes) => {
      const [, inputs] = x.shape;
      const width = Math.floor(EXACT_FLOAT / largestCodeProduct(attributes as unknown as IntegerMatmulBits));
      const floats = (codes: Tensor, start: number): Tensor => cast(slice(codes, 1, start, Math.min(start + width, inputs)), 'float32');
      const parts = Array.from({ length: Math.ceil(inputs / width) }, (_, i) =>
        cast(matmul(floats(x, i * width), floats(weight, i * width), { transposeB: true }), 'int32'),
      );
      return parts.reduce((a, b) => add(a, b));
    },
    gradient: () => [undefined, undefined],
  },
};
