// What is computed at once of many tensors, so that old values can go as new ones come.
import type { NamedTensors } from './optimizer.js';

/** Elements of a tensor that is computed by itself: smaller ones are computed together, since an evaluation has a price too. */
const ALONE = 2 ** 14;

/** The names of tensors in portions: small ones together, large ones one by one, which share a program with others of their shape. */
export function portionsOf(tensors: NamedTensors): string[][] {
  const [small, large]: [string[], string[]] = [[], []];
  for (const [name, { size }] of tensors) (size < ALONE ? small : large).push(name);
  return [...(small.length > 0 ? [small] : []), ...large.map((name) => [name])];
}
