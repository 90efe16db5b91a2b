// What training a block minimises.
import { type Backend, type Block, grad, mean, mul, readNumber, square, sub, sum, type Tensor, tensor } from '@lowbit/core';
import { type NamedTensors, type StagedLoss, withParameters } from '@lowbit/train';
import type { BlockBatch } from './windows.js';

/**
 * Mean square error of the block's output, times `scale`, as a loss of the block's tensors.
 * @param block what gradients are wanted of is given with every call: it may have no elements here.
 */
export function blockLoss(backend: Backend, block: Block, scale = 1): StagedLoss<BlockBatch> {
  const errorOf = (values: NamedTensors, { input, target, weights }: BlockBatch): Tensor => {
    const errors = mean(square(sub(withParameters(block, values).forward(input), target)), [1, 2]);
    // A leaf, so that blocks share a compiled program.
    return mul(sum(mul(errors, weights)), tensor(scale));
  };
  return {
    async value(values, batch) {
      const [loss] = await backend.evaluate([errorOf(values, batch)]);
      return readNumber(loss);
    },
    async gradients(values, batch) {
      const loss = errorOf(values, batch);
      const [value, ...found] = await backend.evaluate([loss, ...grad(loss, [...values.values()])]);
      return { loss: await readNumber(value), gradients: new Map([...values.keys()].map((name, i) => [name, found[i]])) };
    },
  };
}
