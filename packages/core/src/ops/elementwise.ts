// Elementwise operators with NumPy broadcasting.

import type { DType } from '../dtype.js';
import { LowbitError } from '../errors.js';
import { broadcastShapes, formatShape, type Shape, sameShape, sizeOf, stridesOf } from '../shape.js';
import { Tensor } from '../tensor.js';
import { apply } from './apply.js';
import type { BinaryName, ComparisonName, GradientRule, PrimitiveDefinition, ReferenceArray, UnaryName } from './definition.js';
import { reshape } from './movement.js';
import { sum } from './reduce.js';

/** A tensor, or a number that becomes a constant of the compiled program. Numbers that change belong in leaves. */
export type Operand = Tensor | number;

/** A scalar constant. */
export function constant(value: number, dtype: DType = 'float32'): Tensor {
  return apply('constant', [], { value, dtype });
}

function asTensor(value: Operand, dtype: DType = 'float32'): Tensor {
  return value instanceof Tensor ? value : constant(value, dtype);
}

function pair(a: Operand, b: Operand): [Tensor, Tensor] {
  const dtype = a instanceof Tensor ? a.dtype : b instanceof Tensor ? b.dtype : 'float32';
  return [asTensor(a, dtype), asTensor(b, dtype)];
}

export const neg = (x: Tensor): Tensor => apply('neg', [x]);
export const abs = (x: Tensor): Tensor => apply('abs', [x]);
export const sign = (x: Tensor): Tensor => apply('sign', [x]);
export const exp = (x: Tensor): Tensor => apply('exp', [x]);
export const log = (x: Tensor): Tensor => apply('log', [x]);
export const sqrt = (x: Tensor): Tensor => apply('sqrt', [x]);
export const sin = (x: Tensor): Tensor => apply('sin', [x]);
export const cos = (x: Tensor): Tensor => apply('cos', [x]);
export const tanh = (x: Tensor): Tensor => apply('tanh', [x]);
export const sigmoid = (x: Tensor): Tensor => apply('sigmoid', [x]);
export const erf = (x: Tensor): Tensor => apply('erf', [x]);
export const floor = (x: Tensor): Tensor => apply('floor', [x]);
/** To the nearest integer, ties to even: the one rounding rule of the toolkit, on every backend and on the host. */
export const round = (x: Tensor): Tensor => apply('round', [x]);
export const square = (x: Tensor): Tensor => mul(x, x);
export const reciprocal = (x: Tensor): Tensor => div(1, x);

export const add = (a: Operand, b: Operand): Tensor => apply('add', pair(a, b));
export const sub = (a: Operand, b: Operand): Tensor => apply('sub', pair(a, b));
export const mul = (a: Operand, b: Operand): Tensor => apply('mul', pair(a, b));
export const div = (a: Operand, b: Operand): Tensor => apply('div', pair(a, b));
/** aᵇ; no gradient flows to the exponent. */
export const pow = (a: Operand, b: Operand): Tensor => apply('pow', pair(a, b));
export const maximum = (a: Operand, b: Operand): Tensor => apply('maximum', pair(a, b));
export const minimum = (a: Operand, b: Operand): Tensor => apply('minimum', pair(a, b));
/** x limited to [low, high]; the gradient is zero outside. */
export const clip = (x: Tensor, low: Operand, high: Operand): Tensor => minimum(maximum(x, low), high);

export const equal = (a: Operand, b: Operand): Tensor => apply('equal', pair(a, b));
export const less = (a: Operand, b: Operand): Tensor => apply('less', pair(a, b));
export const lessEqual = (a: Operand, b: Operand): Tensor => apply('lessEqual', pair(a, b));
export const greater = (a: Operand, b: Operand): Tensor => less(b, a);
export const greaterEqual = (a: Operand, b: Operand): Tensor => lessEqual(b, a);

/** a where the bool `condition` holds, else b. */
export function where(condition: Tensor, a: Operand, b: Operand): Tensor {
  return apply('where', [condition, ...pair(a, b)]);
}

/** Converts elements; float to integer truncates towards zero, and what int8 or uint8 cannot hold goes to their nearest end. */
export const cast = (x: Tensor, dtype: DType): Tensor => (x.dtype === dtype ? x : apply('cast', [x], { dtype }));
/** The same values with no gradient. */
export const detach = (x: Tensor): Tensor => apply('detach', [x]);
/** Forward: `value`, bit for bit; backward: the gradient goes to `x` as it is (straight-through estimator, arXiv 1308.3432). */
export const straightThrough = (value: Tensor, x: Tensor): Tensor => apply('straightThrough', [value, x]);

/** Sums a gradient over the axes along which `shape` was broadcast. */
export function sumTo(gradient: Tensor, shape: Shape): Tensor {
  if (sameShape(gradient.shape, shape)) return gradient;
  const extra = gradient.rank - shape.length;
  const axes: number[] = [];
  for (let axis = 0; axis < gradient.rank; axis++) {
    if (axis < extra || (shape[axis - extra] === 1 && gradient.shape[axis] !== 1)) axes.push(axis);
  }
  return reshape(sum(gradient, axes), shape);
}

function mapUnary(f: (x: number) => number): PrimitiveDefinition['reference'] {
  return ([x]) => x.data.map(f);
}

/** Reads `array` as if broadcast to `shape`: the source index of each output element. */
export function broadcastIndex(from: Shape, to: Shape): (index: number) => number {
  if (sameShape(from, to)) return (index) => index;
  if (sizeOf(from) === 1) return () => 0;
  const outStrides = stridesOf(to);
  const extra = to.length - from.length;
  const strides = stridesOf(from).map((stride, axis) => (from[axis] === 1 ? 0 : stride));
  return (index) => {
    let rest = index;
    let source = 0;
    for (let axis = 0; axis < to.length; axis++) {
      const position = Math.floor(rest / outStrides[axis]);
      rest -= position * outStrides[axis];
      if (axis >= extra) source += position * strides[axis - extra];
    }
    return source;
  };
}

function mapBinary(f: (a: number, b: number) => number): PrimitiveDefinition['reference'] {
  return ([a, b], _attributes, output) => {
    const indexA = broadcastIndex(a.shape, output.shape);
    const indexB = broadcastIndex(b.shape, output.shape);
    return Float64Array.from({ length: sizeOf(output.shape) }, (_, i) => f(a.data[indexA(i)], b.data[indexB(i)]));
  };
}

function requireFloat(op: string, x: Tensor): void {
  if (x.dtype !== 'float32') throw new LowbitError('DTYPE', `${op}: expects float32, got ${x.dtype}; cast it first`);
}

function unary(op: UnaryName, f: (x: number) => number, gradient: GradientRule): PrimitiveDefinition {
  return {
    kind: 'primitive',
    infer: ([x]) => {
      requireFloat(op, x);
      return { shape: x.shape, dtype: x.dtype };
    },
    gradient,
    reference: mapUnary(f),
  };
}

function inferPair(op: string, a: Tensor, b: Tensor): number[] {
  if (a.dtype !== b.dtype) throw new LowbitError('DTYPE', `${op}: types ${a.dtype} and ${b.dtype} differ; cast one of them`);
  return broadcastShapes(op, a.shape, b.shape);
}

function binary(op: BinaryName, f: (a: number, b: number) => number, gradient: GradientRule): PrimitiveDefinition {
  return {
    kind: 'primitive',
    infer: ([a, b]) => {
      if (a.dtype !== 'float32' && a.dtype !== 'int32')
        throw new LowbitError('DTYPE', `${op}: expects float32 or int32, got ${a.dtype}; cast it first`);
      return { shape: inferPair(op, a, b), dtype: a.dtype };
    },
    gradient: (context) => gradient(context).map((g, i) => g && sumTo(g, context.inputs[i].shape)),
    reference: mapBinary(f),
  };
}

function comparison(op: ComparisonName, f: (a: number, b: number) => boolean): PrimitiveDefinition {
  return {
    kind: 'primitive',
    infer: ([a, b]) => ({ shape: inferPair(op, a, b), dtype: 'bool' }),
    gradient: null,
    reference: mapBinary((a, b) => (f(a, b) ? 1 : 0)),
  };
}

/** Round half to even. */
export function roundHalfEven(x: number): number {
  const rounded = Math.round(x);
  return Math.abs(x - Math.trunc(x)) === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/** erf by its Maclaurin series for |x| < 3 and a continued fraction of erfc beyond: about 1e-15. */
function erfReference(x: number): number {
  const z = Math.abs(x);
  let value: number;
  if (z < 3) {
    let term = z;
    let total = z;
    for (let n = 1; n < 120 && Math.abs(term) > 1e-18; n++) {
      term *= -(z * z) / n;
      total += term / (2 * n + 1);
    }
    value = (2 / Math.sqrt(Math.PI)) * total;
  } else {
    let fraction = z;
    for (let n = 60; n >= 1; n--) fraction = z + n / 2 / fraction;
    value = 1 - Math.exp(-z * z) / (fraction * Math.sqrt(Math.PI));
  }
  return x < 0 ? -value : value;
}

const zeroGradient: GradientRule = () => [undefined];
const halve = (x: Tensor): Tensor => mul(x, 0.5);

/** 1 where the condition holds, ½ where a equals b, else 0: how max and min share the gradient of a tie. */
function share(a: Tensor, b: Tensor, upstream: Tensor): Tensor {
  const wins = where(less(b, a), upstream, 0);
  return add(wins, where(equal(a, b), halve(upstream), 0));
}

export const unaryOps: Record<UnaryName, PrimitiveDefinition> = {
  neg: unary(
    'neg',
    (x) => -x,
    ({ upstream }) => [neg(upstream)],
  ),
  abs: unary('abs', Math.abs, ({ inputs: [x], upstream }) => [mul(upstream, sign(x))]),
  sign: unary('sign', Math.sign, zeroGradient),
  exp: unary('exp', Math.exp, ({ output, upstream }) => [mul(upstream, output)]),
  log: unary('log', Math.log, ({ inputs: [x], upstream }) => [div(upstream, x)]),
  sqrt: unary('sqrt', Math.sqrt, ({ output, upstream }) => [div(halve(upstream), output)]),
  sin: unary('sin', Math.sin, ({ inputs: [x], upstream }) => [mul(upstream, cos(x))]),
  cos: unary('cos', Math.cos, ({ inputs: [x], upstream }) => [neg(mul(upstream, sin(x)))]),
  tanh: unary('tanh', Math.tanh, ({ output, upstream }) => [mul(upstream, sub(1, square(output)))]),
  sigmoid: unary(
    'sigmoid',
    (x) => 1 / (1 + Math.exp(-x)),
    ({ output, upstream }) => [mul(upstream, mul(output, sub(1, output)))],
  ),
  erf: unary('erf', erfReference, ({ inputs: [x], upstream }) => [mul(upstream, mul(exp(neg(square(x))), 2 / Math.sqrt(Math.PI)))]),
  floor: unary('floor', Math.floor, zeroGradient),
  round: unary('round', roundHalfEven, zeroGradient),
};

export const binaryOps: Record<BinaryName, PrimitiveDefinition> = {
  add: binary(
    'add',
    (a, b) => a + b,
    ({ upstream }) => [upstream, upstream],
  ),
  sub: binary(
    'sub',
    (a, b) => a - b,
    ({ upstream }) => [upstream, neg(upstream)],
  ),
  mul: binary(
    'mul',
    (a, b) => a * b,
    ({ inputs: [a, b], upstream }) => [mul(upstream, b), mul(upstream, a)],
  ),
  div: binary(
    'div',
    (a, b) => a / b,
    ({ inputs: [, b], output, upstream }) => {
      const scaled = div(upstream, b);
      return [scaled, neg(mul(scaled, output))];
    },
  ),
  pow: binary(
    'pow',
    (a, b) => a ** b,
    ({ inputs: [a, b], upstream }) => [mul(upstream, mul(b, pow(a, sub(b, 1)))), undefined],
  ),
  maximum: binary('maximum', Math.max, ({ inputs: [a, b], upstream }) => [share(a, b, upstream), share(b, a, upstream)]),
  minimum: binary('minimum', Math.min, ({ inputs: [a, b], upstream }) => [share(b, a, upstream), share(a, b, upstream)]),
};

export const comparisonOps: Record<ComparisonName, PrimitiveDefinition> = {
  equal: comparison('equal', (a, b) => a === b),
  less: comparison('less', (a, b) => a < b),
  lessEqual: comparison('lessEqual', (a, b) => a <= b),
};

const limits: Record<DType, readonly [number, number]> = {
  float32: [-Infinity, Infinity],
  int32: [-(2 ** 31), 2 ** 31 - 1],
  int8: [-128, 127],
  uint8: [0, 255],
  bool: [0, 1],
};

function castValue(dtype: DType): (x: number) => number {
  if (dtype === 'float32') return (x) => x;
  if (dtype === 'bool') return (x) => (x === 0 ? 0 : 1);
  const [low, high] = limits[dtype];
  return (x) => Math.min(high, Math.max(low, Math.trunc(x)));
}

const copy = ([x]: readonly ReferenceArray[]): Float64Array => x.data;

export const selectionOps: Record<'constant' | 'where' | 'cast' | 'detach' | 'straightThrough', PrimitiveDefinition> = {
  constant: {
    kind: 'primitive',
    infer: (_inputs, { dtype }) => ({ shape: [], dtype: dtype as DType }),
    gradient: () => [],
    reference: (_inputs, { value }) => Float64Array.of(value as number),
  },
  where: {
    kind: 'primitive',
    infer: ([condition, a, b]) => {
      if (condition.dtype !== 'bool') throw new LowbitError('DTYPE', `where: the condition must be bool, got ${condition.dtype}`);
      if (a.dtype !== b.dtype) throw new LowbitError('DTYPE', `where: types ${a.dtype} and ${b.dtype} differ`);
      return { shape: broadcastShapes('where', condition.shape, a.shape, b.shape), dtype: a.dtype };
    },
    gradient: ({ inputs: [condition, a, b], upstream }) => [
      undefined,
      sumTo(where(condition, upstream, 0), a.shape),
      sumTo(where(condition, 0, upstream), b.shape),
    ],
    reference: ([condition, a, b], _attributes, output) => {
      const [ic, ia, ib] = [condition, a, b].map((input) => broadcastIndex(input.shape, output.shape));
      return Float64Array.from({ length: sizeOf(output.shape) }, (_, i) => (condition.data[ic(i)] ? a.data[ia(i)] : b.data[ib(i)]));
    },
  },
  cast: {
    kind: 'primitive',
    infer: ([x], { dtype }) => ({ shape: x.shape, dtype: dtype as DType }),
    gradient: () => [undefined],
    reference: ([x], { dtype }) => x.data.map(castValue(dtype as DType)),
  },
  detach: {
    kind: 'primitive',
    infer: ([x]) => ({ shape: x.shape, dtype: x.dtype }),
    gradient: () => [undefined],
    reference: copy,
  },
  straightThrough: {
    kind: 'primitive',
    infer: ([value, x]) => {
      if (!sameShape(value.shape, x.shape)) {
        throw new LowbitError('SHAPE_MISMATCH', `straightThrough: shapes ${formatShape(value.shape)} and ${formatShape(x.shape)} differ`);
      }
      return { shape: value.shape, dtype: value.dtype };
    },
    gradient: ({ upstream }) => [undefined, upstream],
    reference: copy,
  },
};
