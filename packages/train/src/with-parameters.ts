// Puts parameters into the tree they came from.
import type { TensorMap } from '@lowbit/core';
import type { NamedTensors } from './optimizer.js';

/** The tree (a Linear, a Block, a Model) with its tensors replaced by name; those that have no entry stay. */
export function withParameters<Tree extends { map(map: TensorMap): Tree }>(tree: Tree, parameters: NamedTensors): Tree {
  return tree.map((t, name) => parameters.get(name) ?? t);
}
