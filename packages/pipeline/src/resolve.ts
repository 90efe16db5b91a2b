// Computes what a tree of tensors still has as expressions, so that methods may return graphs and transforms may stay lazy.
import { type Backend, materialize, type TensorMap, tensorsOf } from '@lowbit/core';

interface Mappable<T> {
  map(map: TensorMap): T;
}

/** Whether some tensor of the tree is not computed yet. */
export function hasExpressions(tree: Mappable<unknown>): boolean {
  return [...tensorsOf(tree).values()].some((t) => !t.isLeaf);
}

/** The tree with every expression evaluated; leaves stay as they are, in memory or lazy. */
export async function evaluateTree<T extends Mappable<T>>(backend: Backend, tree: T): Promise<T> {
  const pending = [...tensorsOf(tree).values()].filter((t) => !t.isLeaf);
  if (pending.length === 0) return tree;
  const values = await backend.evaluate(pending);
  const computed = new Map(pending.map((t, i) => [t, values[i]]));
  return tree.map((t) => computed.get(t) ?? t);
}

/** The tree with every tensor in host memory. */
export async function resolveTree<T extends Mappable<T>>(backend: Backend, tree: T): Promise<T> {
  return materialize(await evaluateTree(backend, tree));
}
