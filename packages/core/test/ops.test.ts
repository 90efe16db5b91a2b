// What operators refuse, on the line that makes the node.
import { describe, expect, it } from 'vitest';
import {
  add,
  attention,
  concat,
  gather,
  hadamard,
  integerMatmul,
  less,
  linear,
  matmul,
  reshape,
  slice,
  softmax,
  sum,
  type Tensor,
  tensor,
} from '../src/index.js';

const zeros = (...shape: number[]): Tensor => tensor(new Float32Array(shape.reduce((a, b) => a * b, 1)), shape);

const codes = (inputs: number): [Tensor, Tensor] => [
  tensor(new Int8Array(inputs), [1, inputs]),
  tensor(new Uint8Array(inputs), [1, inputs]),
];

describe('operators refuse', () => {
  const cases: [what: string, code: string, build: () => Tensor][] = [
    ['shapes that do not broadcast', 'SHAPE_BROADCAST', () => add(zeros(2, 3), zeros(2))],
    ['types that differ', 'DTYPE', () => add(zeros(2), tensor(Int32Array.of(1, 2)))],
    ['inner sizes that differ', 'SHAPE_MATMUL', () => matmul(zeros(2, 3), zeros(2, 3))],
    ['a weight of another width', 'SHAPE_MATMUL', () => linear(zeros(2, 3), zeros(4, 2))],
    ['a shape of another size', 'SHAPE_RESHAPE', () => reshape(zeros(2, 3), [4, -1])],
    ['a slice past the end', 'SHAPE_SLICE', () => slice(zeros(3), 0, 1, 4)],
    ['an axis past the rank', 'SHAPE_AXIS', () => sum(zeros(3), [1])],
    ['parts that do not join', 'SHAPE_CONCAT', () => concat([zeros(2, 3), zeros(2, 2)], 0)],
    ['indices that are no integers', 'DTYPE', () => gather(zeros(3), zeros(1))],
    ['a softmax of a scalar', 'SHAPE_LAST_AXIS', () => softmax(zeros())],
    [
      'key heads that the query heads do not divide into',
      'SHAPE_ATTENTION',
      () => attention(zeros(1, 3, 2, 4), zeros(1, 2, 2, 4), zeros(1, 2, 2, 4)),
    ],
    ['a size without a Hadamard matrix', 'HADAMARD_SIZE', () => hadamard(zeros(6))],
    ['integer products of floats', 'DTYPE', () => integerMatmul(zeros(1, 2), codes(2)[1], { inputBits: 8, weightBits: 8 })],
    ['integer products of other widths', 'SHAPE_MATMUL', () => integerMatmul(codes(3)[0], codes(2)[1], { inputBits: 8, weightBits: 8 })],
    ['codes wider than a byte', 'BITS_RANGE', () => integerMatmul(...codes(2), { inputBits: 9, weightBits: 8 })],
    ['sums beyond int32', 'INTEGER_RANGE', () => integerMatmul(...codes(65_794), { inputBits: 8, weightBits: 8 })],
    ['sums of bytes, which would wrap', 'DTYPE', () => sum(tensor(Uint8Array.of(200, 100)))],
    ['sums of conditions', 'DTYPE', () => sum(less(zeros(2), 1))],
  ];
  it.each(cases)('%s', (_, code, build) => {
    expect(build).toThrow(expect.objectContaining({ code }));
  });
});
