// Trades memory for speed: quantized weights become dense ones, once, instead of at every evaluation.
import { type Backend, DenseLinear, type Linear, type Model, type Tensor, tensorsOf, throwIfAborted } from '@lowbit/core';
import { runsInIntegers } from '@lowbit/quant';

export interface DensifyOptions {
  readonly signal?: AbortSignal | undefined;
}

/**
 * The same function with every Linear's effective weight evaluated to float32, block by block. Layers that are dense already or run in
 * integers stay as they are, lazy ones lazy; online rotations and quantization of activations stay. For decoding and repeated evaluation; sizes are no longer
 * the quantized model's.
 */
export async function densify(model: Model, backend: Backend, { signal }: DensifyOptions = {}): Promise<Model> {
  let dense = model;
  for (const [index, block] of model.blocks.entries()) {
    throwIfAborted(signal);
    const linears = Object.entries(block.linears).map(([name, linear]) => [name, overEffectiveWeight(linear)]);
    dense = dense.withBlock(index, await evaluated(block.with({ linears: Object.fromEntries(linears) }), backend));
  }
  throwIfAborted(signal);
  return dense.with({ head: await evaluated(overEffectiveWeight(model.head), backend) });
}

/**
 * Merged into one dense layer where nothing is done to its input. Else wrappers stay as they are around a dense layer: taking a rotation
 * out of the weight and putting it back would move the last bits, and with them what is rounded.
 */
function overEffectiveWeight(linear: Linear): Linear {
  if (runsInIntegers(linear)) return linear;
  const weight = linear.effectiveWeight();
  if (weight.isLeaf) return linear;
  const merged = linear.withWeight(weight);
  const part = linear.quantizable;
  return merged instanceof DenseLinear || !part ? merged : part.replace(overEffectiveWeight(part.linear));
}

/** The tree with its expressions computed. */
async function evaluated<T extends { map(map: (t: Tensor, name: string) => Tensor): T }>(tree: T, backend: Backend): Promise<T> {
  const expressions = [...tensorsOf(tree).values()].filter((t) => !t.isLeaf);
  if (expressions.length === 0) return tree;
  const results = await backend.evaluate(expressions);
  const byExpression = new Map(expressions.map((t, i) => [t, results[i]]));
  return tree.map((t) => byExpression.get(t) ?? t);
}
