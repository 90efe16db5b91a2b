// Operators over quantized weights, and the Walsh-Hadamard transform.
import { LowbitError } from '../errors.js';
import { formatShape, sameShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { apply } from './apply.js';
import type { CompositeDefinition } from './definition.js';
import { add, cast, mul, sub } from './elementwise.js';
import { linear, matmul } from './matmul.js';
import { concat, reshape, slice } from './movement.js';

/**
 * w = scale · code + offset, groups of `groupSize` consecutive inputs of one output row. codes uint8, int8 or float32 [out, in]; scale and
 * offset [out, in/groupSize] → float32 [out, in].
 */
export function dequantize(codes: Tensor, scale: Tensor, offset: Tensor): Tensor {
  return apply('dequantize', [codes, scale, offset]);
}

/** x · dequantize(codes, scale, offset)ᵀ: x [..., in] → [..., out]. `bits` tells a backend how narrow the codes are. */
export function quantizedMatmul(x: Tensor, codes: Tensor, scale: Tensor, offset: Tensor, { bits }: { bits: number }): Tensor {
  return apply('quantizedMatmul', [x, codes, scale, offset], { bits });
}

/**
 * x · H / √n over the last axis of size n = 2^k·m, where H = Hadamard(2^k) ⊗ factor (Sylvester order). `factor` [m, m] is a
 * Hadamard matrix of its own, absent when m = 1.
 */
export function hadamard(x: Tensor, factor?: Tensor): Tensor {
  return apply('hadamard', factor ? [x, factor] : [x]);
}

function inferDequantize([codes, scale, offset]: readonly Tensor[]) {
  const [out, inFeatures] = codes.shape;
  if (
    codes.rank !== 2 ||
    scale.rank !== 2 ||
    scale.shape[0] !== out ||
    inFeatures % scale.shape[1] !== 0 ||
    !sameShape(scale.shape, offset.shape)
  ) {
    throw new LowbitError(
      'SHAPE_GROUPS',
      `dequantize: scale ${formatShape(scale.shape)} and offset ${formatShape(offset.shape)} do not group codes ${formatShape(codes.shape)}`,
    );
  }
  return { shape: codes.shape, dtype: 'float32' as const };
}

/** One butterfly level over pairs of halves: [rows, n] in blocks of 2·half. */
function butterfly(x: Tensor, rows: number, blocks: number, half: number): Tensor {
  const split = reshape(x, [rows * blocks, 2, half]);
  const first = slice(split, 1, 0, 1);
  const second = slice(split, 1, 1, 2);
  return concat([add(first, second), sub(first, second)], 1);
}

export const quantizedOps: Record<'dequantize' | 'quantizedMatmul' | 'hadamard', CompositeDefinition> = {
  dequantize: {
    kind: 'composite',
    infer: inferDequantize,
    decompose: ([codes, scale, offset]) => {
      const [out, inFeatures] = codes.shape;
      const groups = scale.shape[1];
      const grouped = cast(reshape(codes, [out, groups, inFeatures / groups]), 'float32');
      const perGroup = [out, groups, 1];
      return reshape(add(mul(grouped, reshape(scale, perGroup)), reshape(offset, perGroup)), codes.shape);
    },
  },
  quantizedMatmul: {
    kind: 'composite',
    infer: ([x, codes, scale, offset]) => {
      inferDequantize([codes, scale, offset]);
      if (x.shape[x.rank - 1] !== codes.shape[1]) {
        throw new LowbitError('SHAPE_MATMUL', `quantizedMatmul: x ${formatShape(x.shape)} does not fit codes ${formatShape(codes.shape)}`);
      }
      return { shape: [...x.shape.slice(0, -1), codes.shape[0]], dtype: x.dtype };
    },
    decompose: ([x, codes, scale, offset]) => linear(x, dequantize(codes, scale, offset)),
  },
  hadamard: {
    kind: 'composite',
    infer: ([x, factor]) => {
      const size = x.shape[x.rank - 1];
      const power = size / (factor ? factor.shape[0] : 1);
      if (!Number.isInteger(power) || (power & (power - 1)) !== 0) {
        throw new LowbitError(
          'HADAMARD_SIZE',
          `hadamard: the last axis of ${formatShape(x.shape)} is not 2^k times ${factor ? factor.shape[0] : 1}`,
        );
      }
      return { shape: x.shape, dtype: x.dtype };
    },
    decompose: ([x, factor]) => {
      const size = x.shape[x.rank - 1];
      const inner = factor ? factor.shape[0] : 1;
      const rows = x.size / size;
      let y = factor ? matmul(reshape(x, [x.size / inner, inner]), factor) : reshape(x, [rows, size]);
      for (let half = inner; half < size; half *= 2) y = butterfly(y, rows, size / (2 * half), half);
      return mul(reshape(y, x.shape), 1 / Math.sqrt(size));
    },
  },
};
