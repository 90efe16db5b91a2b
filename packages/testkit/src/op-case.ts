// How the cases of the conformance suite draw their inputs.
import { type OpName, type Rng, type Tensor, tensor } from '@lowbit/core';

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

export const int32 = (values: readonly number[], shape: readonly number[]): Tensor => tensor(Int32Array.from(values), shape);

/** Draws of float32 tensors by name: equal names, equal values, so that every backend sees the same ones. */
export interface Draws {
  normal(name: string, shape: readonly number[]): Tensor;
  /** Values at a distance from 0 and from each other, so that kinks are not differenced across. */
  spread(name: string, shape: readonly number[]): Tensor;
  /** Between 0.4 and 2.4. */
  positive(name: string, shape: readonly number[]): Tensor;
}

export function drawsOf(rng: Rng): Draws {
  const countOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
  return {
    normal: (name, shape) => tensor(rng.at(name).normal(countOf(shape)), shape),
    spread(name, shape) {
      const count = countOf(shape);
      const values = Float32Array.from(rng.at(name).permutation(count), (i) => (i - count / 2 + 0.3) * 0.37);
      return tensor(values, shape);
    },
    positive(name, shape) {
      const values = rng.at(name).uniform(countOf(shape));
      return tensor(
        values.map((u) => 0.4 + u * 2),
        shape,
      );
    },
  };
}

/** A case of an operator with one input. */
export function unaryCase(name: OpName, build: (x: Tensor) => Tensor, input: Tensor, isDifferentiable = true): OpCase {
  return { name, covers: [name], inputs: [input], build, isDifferentiable };
}
