// Makes nodes of the expression graph.
import { LowbitError } from '../errors.js';
import { type Attributes, Tensor } from '../tensor.js';
import type { OpName } from './definition.js';
import { ops } from './table.js';

/** A node that applies `op`; its shape is inferred and checked here. */
export function apply(op: OpName, inputs: readonly Tensor[], attributes: Attributes = {}): Tensor {
  const { shape, dtype } = ops[op].infer(inputs, attributes);
  return new Tensor(shape, dtype, { kind: 'expression', op, inputs, attributes });
}

/**
 * The decomposition of a composite node into simpler ones, built once a node: a gradient and the forward pass that both go
 * through it share its subgraph.
 */
export function expand(node: Tensor): Tensor {
  if (node.expansion) return node.expansion;
  const source = node.source;
  const definition = source.kind === 'expression' ? ops[source.op] : undefined;
  if (source.kind !== 'expression' || definition?.kind !== 'composite') {
    throw new LowbitError('OP_PRIMITIVE', 'expand: only composite operations have a decomposition');
  }
  node.expansion = definition.decompose(source.inputs, source.attributes);
  return node.expansion;
}
