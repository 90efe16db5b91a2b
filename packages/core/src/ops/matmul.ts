// Matrix products.
import { LowbitError } from '../errors.js';
import { broadcastShapes, formatShape, sizeOf } from '../shape.js';
import type { Attributes, Tensor } from '../tensor.js';
import { apply } from './apply.js';
import type { PrimitiveDefinition } from './definition.js';
import { broadcastIndex, sumTo } from './elementwise.js';
import { reshape } from './movement.js';

export interface MatmulOptions {
  /** Use the transpose of the last two axes of a. */
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
}

/** Batched matrix product [..., m, k]·[..., k, n] → [..., m, n]; leading axes broadcast. */
export function matmul(a: Tensor, b: Tensor, { transposeA = false, transposeB = false }: MatmulOptions = {}): Tensor {
  return apply('matmul', [a, b], { transposeA, transposeB });
}

/** x Wᵀ with x [..., in] and W [out, in] → [..., out]. Rows are flattened first, so that gradients are single products. */
export function linear(x: Tensor, weight: Tensor): Tensor {
  const inFeatures = x.shape[x.rank - 1];
  const flat = reshape(x, [x.size / inFeatures, inFeatures]);
  return reshape(matmul(flat, weight, { transposeB: true }), [...x.shape.slice(0, -1), weight.shape[0]]);
}

interface Dimensions {
  readonly rows: number;
  readonly inner: number;
  readonly columns: number;
}

function dimensions(a: readonly number[], b: readonly number[], { transposeA, transposeB }: Attributes): Dimensions {
  const [rows, inner] = transposeA ? [a[a.length - 1], a[a.length - 2]] : [a[a.length - 2], a[a.length - 1]];
  const [innerB, columns] = transposeB ? [b[b.length - 1], b[b.length - 2]] : [b[b.length - 2], b[b.length - 1]];
  if (inner !== innerB) {
    const mark = (transposed: unknown): string => (transposed ? 'ᵀ' : '');
    throw new LowbitError(
      'SHAPE_MATMUL',
      `matmul: ${formatShape(a)}${mark(transposeA)} and ${formatShape(b)}${mark(transposeB)} have inner sizes ${inner} and ${innerB}`,
    );
  }
  return { rows, inner, columns };
}

export const matmulOps: Record<'matmul', PrimitiveDefinition> = {
  matmul: {
    kind: 'primitive',
    infer: ([a, b], attributes) => {
      if (a.dtype !== 'float32' || b.dtype !== 'float32')
        throw new LowbitError('DTYPE', `matmul: expects float32, got ${a.dtype} and ${b.dtype}; cast first`);
      if (a.rank < 2 || b.rank < 2)
        throw new LowbitError('SHAPE_MATMUL', `matmul: expects matrices, got ${formatShape(a.shape)} and ${formatShape(b.shape)}`);
      const { rows, columns } = dimensions(a.shape, b.shape, attributes);
      return { shape: [...broadcastShapes('matmul', a.shape.slice(0, -2), b.shape.slice(0, -2)), rows, columns], dtype: 'float32' };
    },
    gradient: ({ inputs: [a, b], upstream, attributes }) => {
      const transposeA = attributes.transposeA as boolean;
      const transposeB = attributes.transposeB as boolean;
      const da = transposeA
        ? matmul(b, upstream, { transposeA: transposeB, transposeB: true })
        : matmul(upstream, b, { transposeB: !transposeB });
      const db = transposeB
        ? matmul(upstream, a, { transposeA: true, transposeB: transposeA })
        : matmul(a, upstream, { transposeA: !transposeA });
      return [sumTo(da, a.shape), sumTo(db, b.shape)];
    },
    reference: ([a, b], attributes, output) => {
      const { rows, inner, columns } = dimensions(a.shape, b.shape, attributes);
      const batchShape = output.shape.slice(0, -2);
      const batchA = broadcastIndex(a.shape.slice(0, -2), batchShape);
      const batchB = broadcastIndex(b.shape.slice(0, -2), batchShape);
      const [strideRow, strideInnerA] = attributes.transposeA ? [1, rows] : [inner, 1];
      const [strideInnerB, strideColumn] = attributes.transposeB ? [1, inner] : [columns, 1];
      const out = new Float64Array(sizeOf(output.shape));
      for (let batch = 0; batch < sizeOf(batchShape); batch++) {
        const startA = batchA(batch) * rows * inner;
        const startB = batchB(batch) * inner * columns;
        for (let row = 0; row < rows; row++) {
          for (let column = 0; column < columns; column++) {
            let total = 0;
            for (let k = 0; k < inner; k++) {
              total += a.data[startA + row * strideRow + k * strideInnerA] * b.data[startB + k * strideInnerB + column * strideColumn];
            }
            out[(batch * rows + row) * columns + column] = total;
          }
        }
      }
      return out;
    },
  },
};
