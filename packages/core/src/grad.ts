// Reverse-mode differentiation: builds the graph of the gradients.
import { LowbitError } from './errors.js';
import { expand } from './ops/apply.js';
import { add, broadcastTo, constant } from './ops/index.js';
import { ops } from './ops/table.js';
import { formatShape } from './shape.js';
import type { Tensor } from './tensor.js';

/**
 * Gradients of a scalar with respect to tensors of its graph, each of that tensor's shape; zeros where it does not depend on one.
 * @throws GRAD_SCALAR when `loss` has more than one element; GRAD_UNDEFINED when the path crosses an operator without a gradient.
 */
export function grad(loss: Tensor, wanted: readonly Tensor[]): Tensor[] {
  if (loss.size !== 1) throw new LowbitError('GRAD_SCALAR', `grad: the loss must have one element, got ${formatShape(loss.shape)}`);
  const reaches = dependents(loss, new Set(wanted));
  const gradients = new Map<Tensor, Tensor>([[loss, broadcastTo(constant(1), loss.shape)]]);
  for (const node of reaches.reverse()) {
    const upstream = gradients.get(node);
    if (!upstream || node.source.kind === 'leaf') continue;
    for (const [input, gradient] of inputGradients(node, upstream)) {
      if (!reaches.includesNode(input)) continue;
      const known = gradients.get(input);
      gradients.set(input, known ? add(known, gradient) : gradient);
    }
  }
  return wanted.map((target) => gradients.get(target) ?? broadcastTo(constant(0), target.shape));
}

/** Each input of a node with the gradient that flows into it. */
function inputGradients(node: Tensor, upstream: Tensor): [Tensor, Tensor][] {
  if (node.source.kind === 'leaf') return [];
  const { op, inputs, attributes } = node.source;
  const definition = ops[op];
  if (definition.kind === 'composite' && !definition.gradient) return [[expand(node), upstream]];
  if (!definition.gradient)
    throw new LowbitError(
      'GRAD_UNDEFINED',
      `grad: '${op}' is not differentiable; wrap its input in detach if no gradient is meant to flow`,
    );
  const flowing = definition.gradient({ inputs, output: node, upstream, attributes });
  return flowing.flatMap((gradient, i): [Tensor, Tensor][] => (gradient ? [[inputs[i], gradient]] : []));
}

/** What a node's value is computed from, as the gradient sees it: a composite without a rule of its own is its expansion. */
function sourcesOf(node: Tensor): readonly Tensor[] {
  if (node.source.kind === 'leaf') return [];
  const definition = ops[node.source.op];
  return definition.kind === 'composite' && !definition.gradient ? [expand(node)] : node.source.inputs;
}

interface NodeOrder {
  reverse(): readonly Tensor[];
  includesNode(node: Tensor): boolean;
}

/** Nodes between the wanted tensors and the loss, inputs before users. */
function dependents(loss: Tensor, wanted: ReadonlySet<Tensor>): NodeOrder {
  const order: Tensor[] = [];
  const depends = new Map<Tensor, boolean>();
  const stack: { node: Tensor; next: number }[] = [{ node: loss, next: 0 }];
  const open = new Set<Tensor>([loss]);
  while (stack.length > 0) {
    const frame = stack[stack.length - 1];
    const sources = sourcesOf(frame.node);
    if (frame.next < sources.length) {
      const source = sources[frame.next++];
      if (!open.has(source)) {
        open.add(source);
        stack.push({ node: source, next: 0 });
      }
      continue;
    }
    stack.pop();
    const isNeeded = wanted.has(frame.node) || sources.some((source) => depends.get(source));
    depends.set(frame.node, isNeeded);
    if (isNeeded) order.push(frame.node);
  }
  return { reverse: () => order.reverse(), includesNode: (node) => depends.get(node) === true };
}
