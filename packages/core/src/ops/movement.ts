// Operators that move elements without computing: views, joins, look-ups.
import { LowbitError } from '../errors.js';
import { broadcastShapes, formatShape, resolveAxis, type Shape, sameShape, sizeOf, stridesOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { tensor } from '../tensor.js';
import { apply } from './apply.js';
import type { PrimitiveDefinition, ReferenceArray } from './definition.js';
import { broadcastIndex, equal, sumTo, where } from './elementwise.js';

/** Another shape over the same elements; one axis may be −1 and is inferred. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const known = shape.reduce((product, size) => (size === -1 ? product : product * size), 1);
  const resolved = shape.map((size) => (size === -1 ? x.size / known : size));
  return sameShape(resolved, x.shape) ? x : apply('reshape', [x], { shape: resolved });
}

/** Permutes axes; reverses them by default. */
export function transpose(x: Tensor, permutation?: readonly number[]): Tensor {
  return apply('transpose', [x], { permutation: permutation ?? x.shape.map((_, axis) => x.rank - 1 - axis) });
}

/** Repeats axes of size 1 (and missing leading ones) up to `shape`. */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  return sameShape(x.shape, shape) ? x : apply('broadcastTo', [x], { shape });
}

/** Elements [start, end) of one axis. */
export function slice(x: Tensor, axis: number, start: number, end: number): Tensor {
  const resolved = resolveAxis('slice', axis, x.rank);
  return start === 0 && end === x.shape[resolved] ? x : apply('slice', [x], { axis: resolved, start, end });
}

/** Joins tensors along an axis. */
export function concat(parts: readonly Tensor[], axis: number): Tensor {
  if (parts.length === 0) throw new LowbitError('SHAPE_CONCAT', 'concat: needs at least one tensor');
  return parts.length === 1 ? parts[0] : apply('concat', parts, { axis: resolveAxis('concat', axis, parts[0].rank) });
}

/** Zeros before and after the elements of one axis. */
export function pad(x: Tensor, axis: number, before: number, after: number): Tensor {
  const resolved = resolveAxis('pad', axis, x.rank);
  return before === 0 && after === 0 ? x : apply('pad', [x], { axis: resolved, before, after });
}

/**
 * Slices of `axis` by int32 index: [a, n, b] at [i…] → [a, i…, b]. Indices lie in [0, n); what another one gives depends on the
 * backend, so data that comes from outside is checked where it enters.
 */
export function gather(x: Tensor, indices: Tensor, axis = 0): Tensor {
  return apply('gather', [x, indices], { axis: resolveAxis('gather', axis, x.rank) });
}

/** The transpose of `gather` along axis 0: zeros [size, b…] with `updates` [i…, b…] added at `indices` [i…]. */
export function scatterAdd(indices: Tensor, updates: Tensor, size: number): Tensor {
  return apply('scatterAdd', [indices, updates], { size });
}

/** One element of each last-axis row: [..., n] at int32 [...] → [...]. */
export function takeAlongLast(x: Tensor, indices: Tensor): Tensor {
  return apply('takeAlongLast', [x, indices]);
}

/** int32 leaf 0 … count−1. */
export function range(count: number): Tensor {
  const values = new Int32Array(count);
  for (let i = 0; i < count; i++) values[i] = i;
  return tensor(values);
}

function requireIndices(op: string, indices: Tensor): void {
  if (indices.dtype !== 'int32') throw new LowbitError('DTYPE', `${op}: indices must be int32, got ${indices.dtype}`);
}

/** Copies with `sourceOf(output multi-index) → source index`, given per-axis strides into the source and an offset. */
function gatherStrided(x: ReferenceArray, shape: Shape, strides: readonly number[], offset: number): Float64Array {
  const outStrides = stridesOf(shape);
  return Float64Array.from({ length: sizeOf(shape) }, (_, i) => {
    let rest = i;
    let source = offset;
    for (let axis = 0; axis < shape.length; axis++) {
      const position = Math.floor(rest / outStrides[axis]);
      rest -= position * outStrides[axis];
      source += position * strides[axis];
    }
    return x.data[source];
  });
}

/** Sizes before, at and after an axis. */
function around(shape: Shape, axis: number): [number, number, number] {
  return [sizeOf(shape.slice(0, axis)), shape[axis], sizeOf(shape.slice(axis + 1))];
}

function invert(permutation: readonly number[]): number[] {
  const inverse = new Array<number>(permutation.length);
  permutation.forEach((from, to) => {
    inverse[from] = to;
  });
  return inverse;
}

function checkIndex(op: string, index: number, size: number): number {
  if (index < 0 || index >= size) throw new LowbitError('INDEX_RANGE', `${op}: index ${index} is outside [0, ${size})`);
  return index;
}

type MovementName = 'reshape' | 'transpose' | 'broadcastTo' | 'slice' | 'concat' | 'pad' | 'gather' | 'scatterAdd' | 'takeAlongLast';

export const movementOps: Record<MovementName, PrimitiveDefinition> = {
  reshape: {
    kind: 'primitive',
    infer: ([x], { shape }) => {
      const to = shape as readonly number[];
      if (sizeOf(to) !== x.size || to.some((size) => !Number.isInteger(size))) {
        throw new LowbitError('SHAPE_RESHAPE', `reshape: ${formatShape(x.shape)} does not fill ${formatShape(to)}`);
      }
      return { shape: to, dtype: x.dtype };
    },
    gradient: ({ inputs: [x], upstream }) => [reshape(upstream, x.shape)],
    reference: ([x]) => x.data,
  },
  transpose: {
    kind: 'primitive',
    infer: ([x], { permutation }) => {
      const order = permutation as readonly number[];
      if (order.length !== x.rank || new Set(order).size !== x.rank || order.some((axis) => !(axis >= 0 && axis < x.rank))) {
        throw new LowbitError(
          'SHAPE_TRANSPOSE',
          `transpose: [${order}] is no permutation of the ${x.rank} axes of ${formatShape(x.shape)}`,
        );
      }
      return { shape: order.map((axis) => x.shape[axis]), dtype: x.dtype };
    },
    gradient: ({ upstream, attributes }) => [transpose(upstream, invert(attributes.permutation as number[]))],
    reference: ([x], { permutation }, output) => {
      const strides = stridesOf(x.shape);
      return gatherStrided(
        x,
        output.shape,
        (permutation as number[]).map((axis) => strides[axis]),
        0,
      );
    },
  },
  broadcastTo: {
    kind: 'primitive',
    infer: ([x], { shape }) => {
      const to = shape as readonly number[];
      if (!sameShape(broadcastShapes('broadcastTo', x.shape, to), to)) {
        throw new LowbitError('SHAPE_BROADCAST', `broadcastTo: ${formatShape(x.shape)} does not broadcast to ${formatShape(to)}`);
      }
      return { shape: to, dtype: x.dtype };
    },
    gradient: ({ inputs: [x], upstream }) => [sumTo(upstream, x.shape)],
    reference: ([x], _attributes, output) => {
      const index = broadcastIndex(x.shape, output.shape);
      return Float64Array.from({ length: sizeOf(output.shape) }, (_, i) => x.data[index(i)]);
    },
  },
  slice: {
    kind: 'primitive',
    infer: ([x], attributes) => {
      const { axis, start, end } = attributes as { axis: number; start: number; end: number };
      if (!(Number.isInteger(start) && Number.isInteger(end) && start >= 0 && start < end && end <= x.shape[axis])) {
        throw new LowbitError('SHAPE_SLICE', `slice: [${start}, ${end}) is outside axis ${axis} of ${formatShape(x.shape)}`);
      }
      return { shape: x.shape.map((size, i) => (i === axis ? end - start : size)), dtype: x.dtype };
    },
    gradient: ({ inputs: [x], upstream, attributes }) => {
      const { axis, start, end } = attributes as { axis: number; start: number; end: number };
      return [pad(upstream, axis, start, x.shape[axis] - end)];
    },
    reference: ([x], { axis, start }, output) => {
      const strides = stridesOf(x.shape);
      return gatherStrided(x, output.shape, strides, (start as number) * strides[axis as number]);
    },
  },
  concat: {
    kind: 'primitive',
    infer: (parts, { axis }) => {
      const [first] = parts;
      for (const part of parts) {
        if (part.dtype !== first.dtype || part.rank !== first.rank || part.shape.some((size, i) => i !== axis && size !== first.shape[i])) {
          throw new LowbitError(
            'SHAPE_CONCAT',
            `concat: ${formatShape(part.shape)} does not join ${formatShape(first.shape)} along axis ${axis}`,
          );
        }
      }
      const total = parts.reduce((length, part) => length + part.shape[axis as number], 0);
      return { shape: first.shape.map((size, i) => (i === axis ? total : size)), dtype: first.dtype };
    },
    gradient: ({ inputs, upstream, attributes }) => {
      const axis = attributes.axis as number;
      let start = 0;
      return inputs.map((part) => {
        const end = start + part.shape[axis];
        const gradient = slice(upstream, axis, start, end);
        start = end;
        return gradient;
      });
    },
    reference: (parts, { axis }, output) => {
      const out = new Float64Array(sizeOf(output.shape));
      const [outer, total, inner] = around(output.shape, axis as number);
      let start = 0;
      for (const part of parts) {
        const length = part.shape[axis as number] * inner;
        for (let o = 0; o < outer; o++) out.set(part.data.subarray(o * length, (o + 1) * length), o * total * inner + start);
        start += length;
      }
      return out;
    },
  },
  pad: {
    kind: 'primitive',
    infer: ([x], attributes) => {
      const { axis, before, after } = attributes as { axis: number; before: number; after: number };
      if (!(Number.isInteger(before) && Number.isInteger(after) && before >= 0 && after >= 0)) {
        throw new LowbitError('SHAPE_PAD', `pad: ${before} and ${after} must be non-negative integers`);
      }
      return { shape: x.shape.map((size, i) => (i === axis ? before + size + after : size)), dtype: x.dtype };
    },
    gradient: ({ inputs: [x], upstream, attributes }) => {
      const { axis, before } = attributes as { axis: number; before: number };
      return [slice(upstream, axis, before, before + x.shape[axis])];
    },
    reference: ([x], { axis, before }, output) => {
      const out = new Float64Array(sizeOf(output.shape));
      const [outer, size, inner] = around(x.shape, axis as number);
      const total = output.shape[axis as number];
      for (let o = 0; o < outer; o++)
        out.set(x.data.subarray(o * size * inner, (o + 1) * size * inner), (o * total + (before as number)) * inner);
      return out;
    },
  },
  gather: {
    kind: 'primitive',
    infer: ([x, indices], { axis }) => {
      requireIndices('gather', indices);
      return { shape: [...x.shape.slice(0, axis as number), ...indices.shape, ...x.shape.slice((axis as number) + 1)], dtype: x.dtype };
    },
    gradient: ({ inputs: [x, indices], upstream, attributes }) => {
      const axis = attributes.axis as number;
      if (axis === 0) return [scatterAdd(indices, upstream, x.shape[0]), undefined];
      const [outer, size, inner] = around(x.shape, axis);
      const front = transpose(reshape(upstream, [outer, indices.size, inner]), [1, 0, 2]);
      const scattered = scatterAdd(reshape(indices, [indices.size]), front, size);
      return [reshape(transpose(scattered, [1, 0, 2]), x.shape), undefined];
    },
    reference: ([x, indices], { axis }, output) => {
      const out = new Float64Array(sizeOf(output.shape));
      const [outer, size, inner] = around(x.shape, axis as number);
      const count = indices.data.length;
      for (let o = 0; o < outer; o++) {
        for (let i = 0; i < count; i++) {
          const from = (o * size + checkIndex('gather', indices.data[i], size)) * inner;
          out.set(x.data.subarray(from, from + inner), (o * count + i) * inner);
        }
      }
      return out;
    },
  },
  scatterAdd: {
    kind: 'primitive',
    infer: ([indices, updates], { size }) => {
      requireIndices('scatterAdd', indices);
      if (!sameShape(indices.shape, updates.shape.slice(0, indices.rank))) {
        throw new LowbitError(
          'SHAPE_SCATTER',
          `scatterAdd: updates ${formatShape(updates.shape)} must start with the shape of the indices ${formatShape(indices.shape)}`,
        );
      }
      return { shape: [size as number, ...updates.shape.slice(indices.rank)], dtype: updates.dtype };
    },
    gradient: ({ inputs: [indices], upstream }) => [undefined, gather(upstream, indices, 0)],
    reference: ([indices, updates], { size }, output) => {
      const out = new Float64Array(sizeOf(output.shape));
      const inner = sizeOf(output.shape.slice(1));
      indices.data.forEach((index, i) => {
        checkIndex('scatterAdd', index, size as number);
        for (let j = 0; j < inner; j++) out[index * inner + j] += updates.data[i * inner + j];
      });
      return out;
    },
  },
  takeAlongLast: {
    kind: 'primitive',
    infer: ([x, indices]) => {
      requireIndices('takeAlongLast', indices);
      if (!sameShape(x.shape.slice(0, -1), indices.shape)) {
        throw new LowbitError(
          'SHAPE_TAKE',
          `takeAlongLast: indices ${formatShape(indices.shape)} must have the shape of ${formatShape(x.shape)} without its last axis`,
        );
      }
      return { shape: indices.shape, dtype: x.dtype };
    },
    gradient: ({ inputs: [x, indices], upstream }) => {
      const hit = equal(range(x.shape[x.rank - 1]), reshape(indices, [...indices.shape, 1]));
      return [where(hit, reshape(upstream, [...upstream.shape, 1]), 0), undefined];
    },
    reference: ([x, indices]) => {
      const width = x.shape[x.shape.length - 1];
      return indices.data.map((index, i) => x.data[i * width + checkIndex('takeAlongLast', index, width)]);
    },
  },
};
