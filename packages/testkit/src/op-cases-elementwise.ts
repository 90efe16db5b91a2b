// Cases of describeBackend: elementwise operators, with every way of broadcasting.
import {
  abs,
  add,
  cast,
  causalMask,
  clip,
  cos,
  detach,
  div,
  equal,
  erf,
  exp,
  floor,
  less,
  lessEqual,
  log,
  maximum,
  minimum,
  mul,
  neg,
  type OpName,
  pow,
  type Rng,
  range,
  round,
  sigmoid,
  sign,
  sin,
  softmax,
  sqrt,
  straightThrough,
  sub,
  type Tensor,
  tanh,
  tensor,
  where,
} from '@lowbit/core';
import { drawsOf, int32, type OpCase, unaryCase } from './op-case.js';

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

/** Cases of the elementwise operators, of constants and of selection. */
export function elementwiseCases(rng: Rng): OpCase[] {
  const { normal, spread, positive } = drawsOf(rng);
  const unary = (name: OpName, build: (x: Tensor) => Tensor, input = normal(name, [3, 4])): OpCase => unaryCase(name, build, input);
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
  ];
}
