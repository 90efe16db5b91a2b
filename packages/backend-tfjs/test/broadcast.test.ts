// Going through broadcast tensors in stretches.
import { broadcastShapes, type Shape, sizeOf } from '@lowbit/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { forEachRun, jointAxes } from '../src/broadcast.js';

/** A shape, and some that broadcast to it. */
const broadcast = fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 7 }).chain((shape) =>
  fc.tuple(
    fc.constant(shape),
    fc.array(
      fc
        .tuple(fc.array(fc.boolean(), { minLength: shape.length, maxLength: shape.length }), fc.nat({ max: shape.length }))
        .map(([ones, from]) => shape.map((size, axis) => (ones[axis] ? 1 : size)).slice(from)),
      { minLength: 1, maxLength: 3 },
    ),
  ),
);

/** Where an input has what belongs to element `at` of a shape, axis by axis from the innermost. */
function placeIn(input: Shape, shape: Shape, at: number): number {
  let [place, stride, rest] = [0, 1, at];
  for (let axis = 1; axis <= input.length; axis++) {
    const size = input[input.length - axis];
    if (size > 1) place += stride * (rest % size);
    stride *= size;
    rest = Math.floor(rest / shape[shape.length - axis]);
  }
  return place;
}

describe('broadcasting', () => {
  it('visits each element of the output once, in order, with the place of each input', () => {
    fc.assert(
      fc.property(broadcast, ([shape, inputs]) => {
        const visited: number[][] = [];
        forEachRun(shape, inputs, (start, length, offsets, steps) => {
          for (let k = 0; k < length; k++) visited.push([start + k, ...offsets.map((offset, i) => offset + k * steps[i])]);
        });
        const expected = Array.from({ length: sizeOf(shape) }, (_, at) => [at, ...inputs.map((input) => placeIn(input, shape, at))]);
        expect(visited).toEqual(expected);
      }),
    );
  });

  it('takes neighbouring axes together that all inputs go through as if they were one', () => {
    const sizes = (...inputs: number[][]) => jointAxes(broadcastShapes('test', ...inputs), inputs).map(({ size }) => size);
    expect(sizes([2, 3, 4], [2, 3, 4])).toEqual([24]);
    expect(sizes([2, 3, 4], [4])).toEqual([6, 4]);
    expect(sizes([2, 3, 4, 5], [2, 1, 1, 5])).toEqual([2, 12, 5]);
    expect(sizes([2, 1, 3], [])).toEqual([6]);
    expect(sizes([], [])).toEqual([]);
  });
});
