// One case per operator and way of using it: what describeBackend runs on a backend and compares with the reference.
import {
  argmax,
  attention,
  broadcastTo,
  cast,
  concat,
  crossEntropy,
  dequantize,
  expand,
  gather,
  gelu,
  geluTanh,
  hadamard,
  integerMatmul,
  klDivergence,
  layerNorm,
  linear,
  logSoftmax,
  logSumExp,
  matmul,
  max,
  mean,
  mul,
  type OpName,
  packedMatmul,
  packedRowBytes,
  pad,
  quantizedMatmul,
  type Rng,
  relu,
  reshape,
  rmsNorm,
  rope,
  scatterAdd,
  silu,
  slice,
  softmax,
  square,
  sum,
  type Tensor,
  takeAlongLast,
  tensor,
  transpose,
  unpackPlanes,
} from '@lowbit/core';
import { drawsOf, int32, type OpCase, unaryCase } from './op-case.js';
import { elementwiseCases } from './op-cases-elementwise.js';

/** All cases. */
export function opCases(rng: Rng): OpCase[] {
  return [...elementwiseCases(rng), ...otherCases(rng)];
}

/** Cases of the operators that reduce, move, multiply, and of the composites. */
function otherCases(rng: Rng): OpCase[] {
  const { normal, spread } = drawsOf(rng);
  const unary = (name: OpName, build: (x: Tensor) => Tensor, input = normal(name, [3, 4])): OpCase => unaryCase(name, build, input);
  const codes = tensor(Uint8Array.from(rng.at('codes').integers(4 * 12, 4)), [4, 12]);
  const bytes = (name: string, shape: readonly [number, number]): Tensor =>
    tensor(Uint8Array.from(rng.at(name).integers(shape[0] * shape[1], 256)), shape);
  const angles = rng.at('angles').normal(5 * 3);
  const cosTable = tensor(angles.map(Math.cos), [5, 3]);
  const sinTable = tensor(angles.map(Math.sin), [5, 3]);
  const factor = tensor([1, 1, 1, 1, 1, -1, 1, -1, 1, 1, -1, -1, 1, -1, -1, 1], [4, 4]);

  return [
    ...[undefined, [0], [1], [-1], [0, 2], [] as number[]].map(
      (axes, i): OpCase => ({
        name: `sum over ${axes ? `[${axes}]` : 'all'}`,
        covers: ['sum'],
        inputs: [normal(`sum${i}`, [2, 3, 4])],
        build: (x) => sum(x, axes, i % 2 === 0),
      }),
    ),
    ...[undefined, [0], [2], [1, 2]].map(
      (axes, i): OpCase => ({
        name: `max over ${axes ? `[${axes}]` : 'all'}`,
        covers: ['max'],
        inputs: [spread(`max${i}`, [2, 3, 4])],
        build: (x) => max(x, axes, i % 2 === 1),
      }),
    ),
    { name: 'mean', covers: ['sum'], inputs: [normal('mean', [3, 4])], build: (x) => mean(square(x), [1]) },
    {
      name: 'argmax',
      covers: ['argmax'],
      inputs: [spread('argmax', [3, 4])],
      build: (x) => cast(argmax(x), 'float32'),
      isDifferentiable: false,
    },
    unary('softmax', softmax),
    unary('logSoftmax', logSoftmax),
    { name: 'logSumExp', covers: ['max', 'exp'], inputs: [normal('lse', [3, 4])], build: (x) => logSumExp(mul(x, 30)) },
    {
      name: 'reshape',
      covers: ['reshape'],
      inputs: [normal('reshape', [2, 6])],
      build: (x) => mul(reshape(x, [3, -1]), normal('r2', [3, 4])),
    },
    {
      name: 'transpose',
      covers: ['transpose'],
      inputs: [normal('transpose', [2, 3, 4])],
      build: (x) => mul(transpose(x, [2, 0, 1]), normal('t2', [4, 2, 3])),
    },
    {
      name: 'broadcastTo',
      covers: ['broadcastTo'],
      inputs: [normal('bt', [3, 1])],
      build: (x) => mul(broadcastTo(x, [2, 3, 4]), normal('bt2', [2, 3, 4])),
    },
    { name: 'slice', covers: ['slice'], inputs: [normal('slice', [3, 5])], build: (x) => square(slice(x, 1, 1, 4)) },
    {
      name: 'concat',
      covers: ['concat'],
      inputs: [normal('ca', [2, 1, 3]), normal('cb', [2, 2, 3])],
      build: (a, b) => square(concat([a, b, a], 1)),
    },
    { name: 'pad', covers: ['pad'], inputs: [normal('pad', [2, 3])], build: (x) => mul(pad(x, -1, 2, 1), normal('pad2', [2, 6])) },
    {
      name: 'gather axis 0',
      covers: ['gather', 'scatterAdd'],
      inputs: [normal('g0', [4, 3])],
      build: (x) => square(gather(x, int32([1, 3, 1, 0], [2, 2]), 0)),
    },
    {
      name: 'gather axis 1',
      covers: ['gather'],
      inputs: [normal('g1', [2, 4, 3])],
      build: (x) => square(gather(x, int32([3, 3, 0], [3]), 1)),
    },
    {
      name: 'scatterAdd',
      covers: ['scatterAdd'],
      inputs: [normal('sa', [2, 2, 3])],
      build: (x) => square(scatterAdd(int32([1, 3, 1, 0], [2, 2]), x, 5)),
    },
    {
      name: 'takeAlongLast',
      covers: ['takeAlongLast'],
      inputs: [normal('take', [2, 3, 4])],
      build: (x) => square(takeAlongLast(x, int32([0, 1, 2, 3, 3, 0], [2, 3]))),
    },
    ...[false, true].flatMap((transposeA) =>
      [false, true].flatMap((transposeB) =>
        [
          [
            [3, 4],
            [4, 5],
          ],
          [
            [2, 3, 4],
            [2, 4, 5],
          ],
          [
            [2, 1, 3, 4],
            [3, 4, 5],
          ],
          [
            [2, 3, 4],
            [4, 5],
          ],
        ].map(([a, b], i): OpCase => {
          const flip = (shape: readonly number[], isFlipped: boolean): number[] =>
            isFlipped ? [...shape.slice(0, -2), shape[shape.length - 1], shape[shape.length - 2]] : [...shape];
          return {
            name: `matmul [${a}]${transposeA ? 'ᵀ' : ''} [${b}]${transposeB ? 'ᵀ' : ''}`,
            covers: ['matmul'],
            inputs: [normal(`ma${i}`, flip(a, transposeA)), normal(`mb${i}`, flip(b, transposeB))],
            build: (x, y) => matmul(x, y, { transposeA, transposeB }),
          };
        }),
      ),
    ),
    { name: 'linear', covers: ['matmul'], inputs: [normal('lx', [2, 3, 4]), normal('lw', [5, 4])], build: linear },
    {
      name: 'rmsNorm with weight',
      covers: ['rmsNorm'],
      inputs: [normal('rx', [2, 3, 8]), normal('rw', [8])],
      build: (x, w) => rmsNorm(x, w, { epsilon: 1e-5 }),
    },
    {
      name: 'rmsNorm without weight',
      covers: ['rmsNorm'],
      inputs: [normal('ry', [2, 8])],
      build: (x) => rmsNorm(x, undefined, { epsilon: 1e-5 }),
    },
    {
      name: 'rmsNorm with its own size',
      covers: ['rmsNorm'],
      inputs: [normal('rz', [2, 8]), normal('rv', [8])],
      build: (x, w) => rmsNorm(x, w, { size: 6, epsilon: 1e-5 }),
    },
    {
      name: 'layerNorm',
      covers: ['layerNorm'],
      inputs: [normal('nx', [2, 8]), normal('nw', [8]), normal('nb', [8])],
      build: (x, w, b) => layerNorm(x, w, b, { epsilon: 1e-5 }),
    },
    {
      name: 'layerNorm without bias',
      covers: ['layerNorm'],
      inputs: [normal('nx2', [2, 3, 8]), normal('nw2', [8])],
      build: (x, w) => layerNorm(x, w, undefined, { epsilon: 1e-5 }),
    },
    {
      name: 'layerNorm without weight',
      covers: ['layerNorm'],
      inputs: [normal('nx3', [2, 8]), normal('nb3', [8])],
      build: (x, b) => layerNorm(x, undefined, b, { epsilon: 1e-5 }),
    },
    {
      // A variance taken as the difference of two large numbers would lose its digits; the elements are exact in float32.
      name: 'layerNorm far from 0',
      covers: ['layerNorm'],
      inputs: [
        tensor(
          rng
            .at('nx4')
            .normal(16)
            .map((z) => 500 + Math.round(64 * z) / 64),
          [2, 8],
        ),
        normal('nw4', [8]),
        normal('nb4', [8]),
      ],
      build: (x, w, b) => layerNorm(x, w, b, { epsilon: 1e-5 }),
      isDifferentiable: false,
    },
    unary('silu', silu),
    unary('gelu', gelu),
    unary('geluTanh', geluTanh),
    unary('relu', relu, spread('relu', [3, 4])),
    {
      name: 'rope',
      covers: ['rope'],
      inputs: [normal('rope', [2, 2, 5, 6])],
      build: (x) => mul(rope(x, cosTable, sinTable), normal('rope2', [2, 2, 5, 6])),
    },
    {
      name: 'attention',
      covers: ['attention'],
      inputs: [normal('q', [2, 2, 5, 4]), normal('k', [2, 2, 5, 4]), normal('v', [2, 2, 5, 4])],
      build: (q, k, v) => attention(q, k, v),
    },
    {
      name: 'attention with grouped heads',
      covers: ['attention'],
      inputs: [normal('q2', [2, 6, 3, 4]), normal('k2', [2, 2, 3, 4]), normal('v2', [2, 2, 3, 4])],
      build: (q, k, v) => attention(q, k, v, { scale: 0.3 }),
    },
    {
      name: 'crossEntropy',
      covers: ['crossEntropy'],
      inputs: [normal('ce', [2, 3, 5])],
      build: (x) => crossEntropy(x, int32([0, 4, 2, 1, 1, 3], [2, 3])),
    },
    {
      name: 'klDivergence',
      covers: ['klDivergence', 'logSoftmax'],
      inputs: [normal('kp', [3, 5]), normal('kq', [3, 5])],
      build: klDivergence,
    },
    {
      name: 'dequantize',
      covers: ['dequantize'],
      inputs: [normal('ds', [4, 3]), normal('do', [4, 3])],
      build: (scale, offset) => dequantize(codes, scale, offset),
    },
    {
      name: 'quantizedMatmul',
      covers: ['quantizedMatmul'],
      inputs: [normal('qx', [2, 3, 12]), normal('qs', [4, 3]), normal('qo', [4, 3])],
      build: (x, scale, offset) => quantizedMatmul(x, codes, scale, offset, { bits: 2 }),
    },
    // 13 codes fill no row of bytes whole; what pads them is arbitrary.
    ...[1, 2, 3, 4, 5, 6, 7, 8].map(
      (bits): OpCase => ({
        name: `unpackPlanes of ${bits} bits`,
        covers: ['unpackPlanes'],
        inputs: [],
        build: () => unpackPlanes(bytes(`planes${bits}`, [3, packedRowBytes({ bits, inFeatures: 13 })]), { bits, inFeatures: 13 }),
      }),
    ),
    {
      name: 'packedMatmul',
      covers: ['packedMatmul'],
      inputs: [normal('px', [2, 3, 12]), normal('ps', [4, 3]), normal('po', [4, 3])],
      build: (x, scale, offset) => packedMatmul(x, bytes('packed', [4, 5]), scale, offset, { bits: 3 }),
    },
    ...[
      [4, 4],
      [8, 4],
      [7, 8],
      [8, 8],
    ].flatMap(([inputBits, weightBits]): OpCase[] => {
      const name = `integerMatmul of ${inputBits} by ${weightBits} bits`;
      const [lowest, highest] = [-(2 ** (inputBits - 1)), 2 ** weightBits - 1];
      const drawn = rng.at(name, 'x').integers(3 * 21, -2 * lowest);
      const x = tensor(
        Int8Array.from(drawn, (code) => code + lowest),
        [3, 21],
      );
      const weight = tensor(Uint8Array.from(rng.at(name, 'weight').integers(5 * 21, highest + 1)), [5, 21]);
      // Sums of 1101 products of 8 by 8 bits are more than float32 holds, and these are odd.
      const extremeX = tensor(
        Int8Array.from({ length: 2 * 1101 }, (_, i) => lowest + (i < 1101 ? 0 : 1)),
        [2, 1101],
      );
      const extremeWeight = tensor(new Uint8Array(1101).fill(highest), [1, 1101]);
      const product = (a: Tensor, b: Tensor) => (): Tensor => integerMatmul(a, b, { inputBits, weightBits });
      const decomposed = (): Tensor => expand(product(extremeX, extremeWeight)());
      const common = { covers: ['integerMatmul'] as const, inputs: [] };
      return [
        { ...common, name, build: product(x, weight) },
        { ...common, name: `${name}, no rows`, build: product(tensor(new Int8Array(0), [0, 21]), weight) },
        { ...common, name: `${name}, extreme`, build: product(extremeX, extremeWeight) },
        { ...common, name: `${name}, extreme and decomposed`, build: decomposed },
      ];
    }),
    { name: 'hadamard of a power of two', covers: ['hadamard'], inputs: [normal('h8', [3, 8])], build: (x) => hadamard(x) },
    { name: 'hadamard with a factor', covers: ['hadamard'], inputs: [normal('h16', [2, 16])], build: (x) => hadamard(x, factor) },
  ];
}
