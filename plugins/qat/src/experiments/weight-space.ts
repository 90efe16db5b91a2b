// Models as points: the weights of their Linears, how far two are apart, and the models on lines and planes through them.
import { type Backend, type Block, type Linear, type Model, type Rng, readFloats, tensor } from '@lowbit/core';

/** Weights [out, in] of the Linears of all blocks, row-major, by path. */
export type Point = ReadonlyMap<string, Float32Array>;

function linearsOf(block: Block): [path: string, name: string, linear: Linear][] {
  return Object.entries(block.linears).map(([name, linear]) => [`${block.path}.${name}`, name, linear]);
}

/** Where a model is: the weights that its Linears compute with, whatever they are stored as. */
export async function pointOf({ blocks }: Model, backend: Backend): Promise<Point> {
  const point = new Map<string, Float32Array>();
  for (const linears of blocks.map(linearsOf)) {
    const weights = await backend.evaluate(linears.map(([, , linear]) => linear.effectiveWeight()));
    for (const [i, [path]] of linears.entries()) point.set(path, await readFloats(weights[i]));
  }
  return point;
}

/** The model at a point: embedding, norms, biases and head are those of `dense`, whose Linears have the shapes of the point's. */
export function modelAt(dense: Model, point: Point): Model {
  const blocks = dense.blocks.map((block) => {
    const moved = linearsOf(block).map(([path, name, linear]) => {
      return [name, linear.withWeight(tensor(weightAt(point, path), [linear.outFeatures, linear.inFeatures]))] as const;
    });
    return block.with({ linears: Object.fromEntries(moved) });
  });
  return dense.with({ blocks });
}

/** Σ shareₖ · pointₖ, shares that sum to 1. A point whose share is 1, the others' being 0, comes out as it is. */
export function mix(points: readonly Point[], shares: readonly number[]): Point {
  return mapWeights(points[0], (path, { length }) => {
    const total = new Float64Array(length);
    for (const [k, point] of points.entries()) {
      const [weight, share] = [weightAt(point, path), shares[k]];
      for (let i = 0; i < length; i++) total[i] += share * weight[i];
    }
    return Float32Array.from(total);
  });
}

/** ⟨a − origin, b − origin⟩ over all weights. */
export function innerProduct(origin: Point, a: Point, b: Point): number {
  let total = 0;
  for (const [path, weight] of origin) {
    const [left, right] = [weightAt(a, path), weightAt(b, path)];
    for (let i = 0; i < weight.length; i++) total += (left[i] - weight[i]) * (right[i] - weight[i]);
  }
  return total;
}

/** ‖w‖ over all weights. */
export function normOf(point: Point): number {
  const squares = [...point.values()].map((weight) => weight.reduce((total, value) => total + value * value, 0));
  return Math.sqrt(squares.reduce((total, square) => total + square, 0));
}

/** ‖Δ‖/‖w‖, Δ leading from the origin w to a point. */
export function distanceOf(origin: Point, point: Point): number {
  return Math.sqrt(innerProduct(origin, point, point)) / normOf(origin);
}

/** A point at distance 1 in a random direction: normal numbers, of each weight with the norm of that weight. */
export function randomPoint(origin: Point, rng: Rng): Point {
  return mapWeights(origin, (path, weight) => {
    const noise = rng.at(path).normal(weight.length);
    const scale = Math.sqrt(squareSum(weight) / squareSum(noise));
    return weight.map((value, i) => value + scale * noise[i]);
  });
}

function squareSum(values: Float32Array): number {
  return values.reduce((total, value) => total + value * value, 0);
}

function mapWeights(point: Point, map: (path: string, weight: Float32Array) => Float32Array): Point {
  return new Map([...point].map(([path, weight]) => [path, map(path, weight)]));
}

/** All points of a study have the Linears of one model. */
function weightAt(point: Point, path: string): Float32Array {
  return point.get(path) as Float32Array;
}
