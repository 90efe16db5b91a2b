// What training a block minimises.
import { add, type Backend, type Block, grad, mean, mul, readNumber, square, sub, sum, type Tensor, tensor } from '@lowbit/core';
import { type NamedTensors, type StagedLoss, withParameters } from '@lowbit/train';
import type { BlockBatch, BlockPart } from './windows.js';

/**
 * Mean square error of the block's output, times `scale`, as a loss of the block's tensors. The parts of a batch are computed one after the
 * other, and each adds its gradients to those before it.
 * @param block what gradients are wanted of is given with every call: it may have no elements here.
 */
export function blockLoss(backend: Backend, block: Block, scale = 1): StagedLoss<BlockBatch> {
  const errorOf = (values: NamedTensors, { input, target, weights }: BlockPart): Tensor => {
    const errors = mean(square(sub(withParameters(block, values).forward(input), target)), [1, 2]);
    // A leaf, so that blocks share a compiled program.
    return mul(sum(mul(errors, weights)), tensor(scale));
  };
  return {
    async value(values, batch) {
      let total = 0;
      for (let i = 0; i < batch.length; i++) {
        const [loss] = await backend.evaluate([errorOf(values, await batch.at(i))]);
        total += await readNumber(loss);
      }
      return total;
    },
    async gradients(values, batch) {
      let total = 0;
      let sums: readonly Tensor[] = [];
      for (let i = 0; i < batch.length; i++) {
        const loss = errorOf(values, await batch.at(i));
        const own = grad(loss, [...values.values()]);
        const added = i === 0 ? own : own.map((gradient, j) => add(sums[j], gradient));
        const [value, ...found] = await backend.evaluate([loss, ...added], { release: sums });
        total += await readNumber(value);
        sums = found;
      }
      return { loss: total, gradients: new Map([...values.keys()].map((name, i) => [name, sums[i]])) };
    },
  };
}
