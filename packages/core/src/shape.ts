// Shape arithmetic shared by the operators.
import { LowbitError } from './errors.js';

/** Sizes of the axes, outermost first; `[]` is a scalar. */
export type Shape = readonly number[];

/** Number of elements. */
export function sizeOf(shape: Shape): number {
  let size = 1;
  for (const axis of shape) size *= axis;
  return size;
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}

/** Row-major strides in elements. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = stride;
    stride *= shape[axis];
  }
  return strides;
}

/** NumPy broadcasting of several shapes; throws SHAPE_BROADCAST when they do not fit. */
export function broadcastShapes(op: string, ...shapes: Shape[]): number[] {
  const rank = Math.max(0, ...shapes.map((shape) => shape.length));
  const result = new Array<number>(rank).fill(1);
  for (const shape of shapes) {
    for (let i = 0; i < shape.length; i++) {
      const axis = rank - shape.length + i;
      if (shape[i] === 1) continue;
      if (result[axis] !== 1 && result[axis] !== shape[i]) {
        throw new LowbitError('SHAPE_BROADCAST', `${op}: shapes ${shapes.map(formatShape).join(' and ')} do not broadcast`);
      }
      result[axis] = shape[i];
    }
  }
  return result;
}

/** Resolves a possibly negative axis; throws SHAPE_AXIS when it is outside the rank. */
export function resolveAxis(op: string, axis: number, rank: number): number {
  const resolved = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(axis) || resolved < 0 || resolved >= rank) {
    throw new LowbitError('SHAPE_AXIS', `${op}: axis ${axis} is outside a tensor of rank ${rank}`);
  }
  return resolved;
}

export function formatShape(shape: Shape): string {
  return `[${shape.join(', ')}]`;
}
