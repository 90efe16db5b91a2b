// One case per operator and way of using it: what describeBackend runs on a backend and compares with the reference.
import {
  abs,
  add,
  argmax,
  attention,
  broadcastTo,
  cast,
  causalMask,
  clip,
  concat,
  cos,
  crossEntropy,
  dequantize,
  detach,
  div,
  equal,
  erf,
  exp,
  floor,
  gather,
  gelu,
  hadamard,
  klDivergence,
  layerNorm,
  less,
  lessEqual,
  linear,
  log,
  logSoftmax,
  logSumExp,
  matmul,
  max,
  maximum,
  mean,
  minimum,
  mul,
  neg,
  type OpName,
  pad,
  pow,
  quantizedMatmul,
  type Rng,
  range,
  reshape,
  rmsNorm,
  rope,
  round,
  scatterAdd,
  sigmoid,
  sign,
  silu,
  sin,
  slice,
  softmax,
  sqrt,
  square,
  straightThrough,
  sub,
  sum,
  type Tensor,
  takeAlongLast,
  tanh,
  tensor,
  transpose,
  where,
} from '@lowbit/core';

export interface OpCase {
  readonly name: string;
  /** Operators the case stands for; a test checks that the table is covered. */
  readonly covers: readonly OpName[];
  /** Differentiable inputs, float32. */
  readonly inputs: readonly Tensor[];
  build(...inputs: Tensor[]): Tensor;
  /** Whether gradients are checked against finite differences. Default: true. */
  readonly isDifferentiable?: boolean;
}

/** Shapes that broadcast in every way an elementwise operator meets. */
const BROADCASTS: readonly (readonly [readonly number[], readonly number[]])[] = [
  [
    [2, 3],
    [2, 3],
  ],
  [[2, 3], []],
  [[], [2, 3]],
  [[2, 3], [3]],
  [
    [2, 1, 3],
    [4, 1],
  ],
  [
    [2, 3, 1],
    [1, 3, 4],
  ],
];

const int32 = (values: readonly number[], shape: readonly number[]): Tensor => tensor(Int32Array.from(values), shape);

/** All cases. Inputs are drawn from `rng`, so that every backend sees the same ones. */
export function opCases(rng: Rng): OpCase[] {
  const normal = (name: string, shape: readonly number[]): Tensor => tensor(rng.at(name).normal(shape.reduce((a, b) => a * b, 1)), shape);
  /** Values at a distance from 0 and from each other, so that kinks are not differenced across. */
  const spread = (name: string, shape: readonly number[]): Tensor => {
    const count = shape.reduce((a, b) => a * b, 1);
    const order = rng.at(name).permutation(count);
    return tensor(
      Float32Array.from(order, (i) => (i - count / 2 + 0.3) * 0.37),
      shape,
    );
  };
  const positive = (name: string, shape: readonly number[]): Tensor => {
    const count = shape.reduce((a, b) => a * b, 1);
    return tensor(
      rng
        .at(name)
        .uniform(count)
        .map((u) => 0.4 + u * 2),
      shape,
    );
  };
  const unary = (name: OpName, build: (x: Tensor) => Tensor, input = normal(name, [3, 4]), isDifferentiable = true): OpCase => ({
    name,
    covers: [name],
    inputs: [input],
    build,
    isDifferentiable,
  });
  const binary = (name: OpName, build: (a: Tensor, b: Tensor) => Tensor, draw = normal, isDifferentiable = true): OpCase[] =>
    BROADCASTS.map(([a, b], i) => ({
      name: `${name} [${a}] with [${b}]`,
      covers: [name],
      inputs: [draw(`${name}a${i}`, a), draw(`${name}b${i}`, b)],
      build,
      isDifferentiable,
    }));
  const compare = (name: 'equal' | 'less' | 'lessEqual', build: (a: Tensor, b: Tensor) => Tensor): OpCase[] =>
    binary(name, (a, b) => cast(build(round(a), round(b)), 'float32'), normal, false);

  const codes = tensor(Uint8Array.from(rng.at('codes').integers(4 * 12, 4)), [4, 12]);
  const angles = rng.at('angles').normal(5 * 3);
  const cosTable = tensor(angles.map(Math.cos), [5, 3]);
  const sinTable = tensor(angles.map(Math.sin), [5, 3]);
  const factor = tensor([1, 1, 1, 1, 1, -1, 1, -1, 1, 1, -1, -1, 1, -1, -1, 1], [4, 4]);

  return [
    unary('neg', neg),
    unary('abs', abs, spread('abs', [3, 4])),
    unary('sign', sign, spread('sign', [3, 4])),
    unary('exp', exp),
    unary('log', log, positive('log', [3, 4])),
    unary('sqrt', sqrt, positive('sqrt', [3, 4])),
    unary('sin', sin),
    unary('cos', cos),
    unary('tanh', tanh),
    unary('sigmoid', sigmoid),
    unary('erf', erf),
    unary('floor', floor, spread('floor', [3, 4])),
    unary('round', round, spread('round', [3, 4])),
    {
      name: 'round ties to even',
      covers: ['round'],
      inputs: [tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5])],
      build: round,
      isDifferentiable: false,
    },
    ...binary('add', add),
    ...binary('sub', sub),
    ...binary('mul', mul),
    ...binary('div', div, positive),
    ...binary('maximum', maximum, spread),
    ...binary('minimum', minimum, spread),
    { name: 'pow', covers: ['pow'], inputs: [positive('pow', [3, 4])], build: (x) => pow(x, 2.5) },
    { name: 'clip', covers: ['maximum', 'minimum'], inputs: [spread('clip', [3, 4])], build: (x) => clip(x, -1, 1) },
    { name: 'int32 add', covers: ['add'], inputs: [], build: () => cast(add(int32([1, 2, 3], [3]), 4), 'float32') },
    ...compare('equal', equal),
    ...compare('less', less),
    ...compare('lessEqual', lessEqual),
    { name: 'constant', covers: ['constant'], inputs: [normal('constant', [2])], build: (x) => add(x, 3.25) },
    { name: 'causalMask', covers: ['causalMask'], inputs: [normal('mask', [3, 5])], build: (x) => softmax(add(x, causalMask(3, 5, 2))) },
    ...BROADCASTS.map(
      ([a, b], i): OpCase => ({
        name: `where [${a}] with [${b}]`,
        covers: ['where', 'less'],
        inputs: [normal(`wa${i}`, a), normal(`wb${i}`, b)],
        build: (x, y) => where(less(range(1), 1), x, y),
      }),
    ),
    {
      name: 'where by elements',
      covers: ['where'],
      inputs: [normal('we', [2, 3]), normal('wf', [2, 3])],
      build: (x, y) => where(less(detach(x), detach(y)), mul(x, 2), y),
    },
    {
      name: 'cast to codes and back',
      covers: ['cast'],
      inputs: [tensor([0, 1.9, 3.2, 255])],
      build: (x) => cast(cast(x, 'uint8'), 'float32'),
      isDifferentiable: false,
    },
    {
      name: 'cast to int8 and back',
      covers: ['cast'],
      inputs: [tensor([-128, -1.9, 0.2, 127])],
      build: (x) => cast(cast(x, 'int8'), 'float32'),
      isDifferentiable: false,
    },
    {
      name: 'cast saturates at the ends of uint8',
      covers: ['cast'],
      inputs: [tensor([-5, 300, 1e20])],
      build: (x) => cast(cast(x, 'uint8'), 'float32'),
      isDifferentiable: false,
    },
    {
      name: 'cast saturates at the ends of int8',
      covers: ['cast'],
      inputs: [],
      build: () => cast(cast(int32([-300, -128, 127, 300], [4]), 'int8'), 'float32'),
    },
    {
      name: 'clip without limits',
      covers: ['maximum', 'minimum', 'constant'],
      inputs: [spread('unclipped', [3, 4])],
      build: (x) => clip(x, -Infinity, Infinity),
    },
    { name: 'detach', covers: ['detach'], inputs: [normal('detach', [3])], build: (x) => mul(x, detach(exp(x))), isDifferentiable: false },
    { name: 'detach of a leaf', covers: ['detach'], inputs: [normal('detach2', [3])], build: (x) => detach(x), isDifferentiable: false },
    {
      name: 'straightThrough',
      covers: ['straightThrough'],
      inputs: [spread('ste', [3, 4])],
      build: (x) => mul(straightThrough(round(x), x), 2),
      isDifferentiable: false,
    },
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
    unary('silu', silu),
    unary('gelu', gelu),
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
    { name: 'klDivergence', covers: ['logSoftmax'], inputs: [normal('kp', [3, 5]), normal('kq', [3, 5])], build: klDivergence },
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
    { name: 'hadamard of a power of two', covers: ['hadamard'], inputs: [normal('h8', [3, 8])], build: (x) => hadamard(x) },
    { name: 'hadamard with a factor', covers: ['hadamard'], inputs: [normal('h16', [2, 16])], build: (x) => hadamard(x, factor) },
  ];
}
