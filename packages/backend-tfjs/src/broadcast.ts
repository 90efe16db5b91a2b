// Elements of several tensors in the order of a shape that they are broadcast to.
import { type Shape, stridesOf } from '@lowbit/core';

/** Strides with which an input is read as if broadcast to a shape. */
export function broadcastStrides(from: Shape, to: Shape): number[] {
  const strides = stridesOf(from);
  const extra = to.length - from.length;
  return to.map((_, axis) => (axis < extra || from[axis - extra] === 1 ? 0 : strides[axis - extra]));
}

export interface Axis {
  readonly size: number;
  /** Elements from one place to the next, for each input: 0 where it is broadcast. */
  readonly steps: readonly number[];
}

/** The axes of a shape, outermost first, with neighbours that all inputs go through as if they were one taken together. */
export function jointAxes(shape: Shape, inputs: readonly Shape[]): Axis[] {
  const strides = inputs.map((input) => broadcastStrides(input, shape));
  const axes: Axis[] = [];
  for (const [axis, size] of shape.entries()) {
    if (size === 1) continue;
    const steps = strides.map((stride) => stride[axis]);
    const outer = axes.at(-1);
    if (outer?.steps.every((step, i) => step === size * steps[i])) axes[axes.length - 1] = { size: outer.size * size, steps };
    else axes.push({ size, steps });
  }
  return axes;
}

/**
 * A stretch of the output, `length` elements from `start` on, and where each input is at its first element.
 * From one element to the next an input goes `steps[i]` on, which is 0 or 1.
 */
type Visit = (start: number, length: number, offsets: readonly number[], steps: readonly number[]) => void;

/** Goes through an output of a shape, none of whose axes is empty, in stretches along its innermost joint axis. */
export function forEachRun(shape: Shape, inputs: readonly Shape[], visit: Visit): void {
  const axes = jointAxes(shape, inputs);
  const { size: length, steps } = axes.pop() ?? { size: 1, steps: inputs.map(() => 0) };
  const runs = axes.reduce((product, { size }) => product * size, 1);
  const places = axes.map(() => 0);
  const offsets = inputs.map(() => 0);
  for (let run = 0; run < runs; run++) {
    visit(run * length, length, offsets, steps);
    for (let axis = axes.length - 1; axis >= 0; axis--) {
      const { size, steps: outer } = axes[axis];
      const turns = ++places[axis] === size;
      for (let i = 0; i < offsets.length; i++) offsets[i] += turns ? -outer[i] * (size - 1) : outer[i];
      if (!turns) break;
      places[axis] = 0;
    }
  }
}
