// How much memory a compiled program holds on to for its intermediate values.
import { bytesPerElement, type Structure, type Tensor } from '@lowbit/core';

/**
 * The most bytes of intermediate values that live at once when a graph runs in order: what the engine's arena keeps between runs,
 * within a factor of two. Leaves and results lie in the host's memory and do not count.
 */
export function workingBytes(structure: Structure): number {
  const base = new Map<number, number>();
  const lastUse = new Map<number, number>();
  const results = new Set(structure.roots);
  // A reshaped value shares the memory of what it was.
  const memoryOf = (number: number): number => base.get(number) ?? number;
  for (const [number, { expression, inputs }] of structure.nodes) {
    if (expression.op === 'reshape' && !results.has(number)) base.set(number, memoryOf(inputs[0]));
    for (const input of inputs) lastUse.set(memoryOf(input), number);
  }
  const bytesOf = ({ size, dtype }: Tensor): number => size * bytesPerElement[dtype];
  let live = 0;
  let most = 0;
  for (const [number, { tensor, inputs }] of structure.nodes) {
    if (!base.has(number) && !results.has(number)) live += bytesOf(tensor);
    most = Math.max(most, live);
    for (const memory of new Set(inputs.map(memoryOf))) {
      const node = structure.nodes.get(memory);
      if (node && lastUse.get(memory) === number && !results.has(memory)) live -= bytesOf(node.tensor);
    }
  }
  return most;
}
