// Reductions and the softmax family.
import { LowbitError } from '../errors.js';
import { formatShape, resolveAxis, sizeOf, stridesOf } from '../shape.js';
import type { Attributes, Tensor } from '../tensor.js';
import { apply } from './apply.js';
import type { PrimitiveDefinition, ReferenceArray } from './definition.js';
import { add, cast, div, equal, exp, log, mul, sub } from './elementwise.js';
import { broadcastTo, reshape } from './movement.js';

function axesOf(op: string, x: Tensor, axes: readonly number[] | undefined): number[] {
  const resolved = (axes ?? x.shape.map((_, axis) => axis)).map((axis) => resolveAxis(op, axis, x.rank));
  return [...new Set(resolved)].sort((a, b) => a - b);
}

/** Sum over the axes (all by default); with `keepDims` they stay with size 1. */
export function sum(x: Tensor, axes?: readonly number[], keepDims = false): Tensor {
  return apply('sum', [x], { axes: axesOf('sum', x, axes), keepDims });
}

/** Maximum over the axes (all by default). Equal maxima share the gradient. */
export function max(x: Tensor, axes?: readonly number[], keepDims = false): Tensor {
  return apply('max', [x], { axes: axesOf('max', x, axes), keepDims });
}

/** Index of the first maximum of the last axis: [..., n] → int32 [...]. */
export const argmax = (x: Tensor): Tensor => apply('argmax', [x]);

/** Arithmetic mean over the axes (all by default). */
export function mean(x: Tensor, axes?: readonly number[], keepDims = false): Tensor {
  const count = axesOf('mean', x, axes).reduce((product, axis) => product * x.shape[axis], 1);
  return mul(sum(x, axes, keepDims), 1 / count);
}

/** Over the last axis. */
export const softmax = (x: Tensor): Tensor => apply('softmax', [x]);
/** Over the last axis. */
export const logSoftmax = (x: Tensor): Tensor => apply('logSoftmax', [x]);

/** log Σ exp over the last axis, kept with size 1. */
export function logSumExp(x: Tensor): Tensor {
  const peak = max(x, [-1], true);
  return add(log(sum(exp(sub(x, peak)), [-1], true)), peak);
}

function inferReduction([x]: readonly Tensor[], { axes, keepDims }: Attributes): { shape: number[]; dtype: Tensor['dtype'] } {
  const reduced = axes as readonly number[];
  const shape = keepDims
    ? x.shape.map((size, axis) => (reduced.includes(axis) ? 1 : size))
    : x.shape.filter((_, axis) => !reduced.includes(axis));
  return { shape, dtype: x.dtype };
}

/** The gradient of a reduced tensor, back at the rank of its input with size 1 on the reduced axes. */
function keepRank(gradient: Tensor, x: Tensor, axes: readonly number[]): Tensor {
  return reshape(
    gradient,
    x.shape.map((size, axis) => (axes.includes(axis) ? 1 : size)),
  );
}

function reduceReference(start: number, combine: (total: number, x: number) => number): PrimitiveDefinition['reference'] {
  return ([x], { axes }, output) => {
    const reduced = axes as readonly number[];
    const kept = x.shape.map((size, axis) => (reduced.includes(axis) ? 1 : size));
    const keptStrides = stridesOf(kept).map((stride, axis) => (reduced.includes(axis) ? 0 : stride));
    const strides = stridesOf(x.shape);
    const out = new Float64Array(sizeOf(output.shape)).fill(start);
    for (let i = 0; i < x.data.length; i++) {
      let rest = i;
      let target = 0;
      for (let axis = 0; axis < strides.length; axis++) {
        const position = Math.floor(rest / strides[axis]);
        rest -= position * strides[axis];
        target += position * keptStrides[axis];
      }
      out[target] = combine(out[target], x.data[i]);
    }
    return out;
  };
}

/** Calls `row` with each run of the last axis. */
function forEachRow(x: ReferenceArray, row: (values: Float64Array, index: number) => void): void {
  const width = x.shape[x.shape.length - 1];
  for (let i = 0; i * width < x.data.length; i++) row(x.data.subarray(i * width, (i + 1) * width), i);
}

function softmaxReference(finish: (shifted: number, total: number) => number): PrimitiveDefinition['reference'] {
  return ([x]) => {
    const out = new Float64Array(x.data.length);
    forEachRow(x, (values, index) => {
      const peak = values.reduce((a, b) => Math.max(a, b), -Infinity);
      const total = values.reduce((a, b) => a + Math.exp(b - peak), 0);
      values.forEach((value, i) => {
        out[index * values.length + i] = finish(value - peak, total);
      });
    });
    return out;
  };
}

function inferLastAxis(op: string) {
  return ([x]: readonly Tensor[]): { shape: readonly number[]; dtype: Tensor['dtype'] } => {
    if (x.rank === 0 || x.dtype !== 'float32') {
      throw new LowbitError('SHAPE_LAST_AXIS', `${op}: expects a float32 tensor with a last axis, got ${x.dtype} ${formatShape(x.shape)}`);
    }
    return { shape: x.shape, dtype: x.dtype };
  };
}

export const reductionOps: Record<'sum' | 'max' | 'argmax' | 'softmax' | 'logSoftmax', PrimitiveDefinition> = {
  sum: {
    kind: 'primitive',
    infer: ([x], attributes) => {
      if (x.dtype !== 'float32' && x.dtype !== 'int32')
        throw new LowbitError('DTYPE', `sum: expects float32 or int32, got ${x.dtype}; cast it first`);
      return inferReduction([x], attributes);
    },
    gradient: ({ inputs: [x], upstream, attributes }) => [broadcastTo(keepRank(upstream, x, attributes.axes as number[]), x.shape)],
    reference: reduceReference(0, (total, x) => total + x),
  },
  max: {
    kind: 'primitive',
    infer: inferReduction,
    gradient: ({ inputs: [x], output, upstream, attributes }) => {
      const axes = attributes.axes as number[];
      const isPeak = cast(equal(x, keepRank(output, x, axes)), 'float32');
      return [mul(isPeak, div(keepRank(upstream, x, axes), sum(isPeak, axes, true)))];
    },
    reference: reduceReference(-Infinity, Math.max),
  },
  argmax: {
    kind: 'primitive',
    infer: ([x]) => ({ shape: inferLastAxis('argmax')([x]).shape.slice(0, -1), dtype: 'int32' }),
    gradient: null,
    reference: ([x], _attributes, output) => {
      const out = new Float64Array(sizeOf(output.shape));
      forEachRow(x, (values, index) => {
        out[index] = values.reduce((best, value, i) => (value > values[best] ? i : best), 0);
      });
      return out;
    },
  },
  softmax: {
    kind: 'primitive',
    infer: inferLastAxis('softmax'),
    gradient: ({ output, upstream }) => [mul(output, sub(upstream, sum(mul(upstream, output), [-1], true)))],
    reference: softmaxReference((shifted, total) => Math.exp(shifted) / total),
  },
  logSoftmax: {
    kind: 'primitive',
    infer: inferLastAxis('logSoftmax'),
    gradient: ({ output, upstream }) => [sub(upstream, mul(exp(output), sum(upstream, [-1], true)))],
    reference: softmaxReference((shifted, total) => shifted - Math.log(total)),
  },
};
