// What a graph would take if it were computed: counted from its shapes, without touching a weight.
import { type Block, bytesPerElement, type Cost, composites, expand, type OpName, type Tensor } from '@lowbit/core';

/** What of a block decides its cost. */
export function shapesOf({ linears }: Block): string {
  return JSON.stringify(Object.entries(linears).map(([name, { kind, inFeatures, outFeatures }]) => [name, kind, inFeatures, outFeatures]));
}

/** Costs one after another: work adds up, memory is that of the largest moment. */
export function sumCosts(costs: readonly Cost[]): Cost {
  return {
    flops: costs.reduce((total, { flops }) => total + flops, 0),
    elements: costs.reduce((total, { elements }) => total + elements, 0),
    bytes: costs.reduce((most, { bytes }) => Math.max(most, bytes), 0),
  };
}

/** The same work several times, in the same memory. */
export function timesCost({ flops, elements, bytes }: Cost, times: number): Cost {
  return { flops: times * flops, elements: times * elements, bytes };
}

/** Operations that look at more than they give. */
const REDUCTIONS: ReadonlySet<OpName> = new Set(['sum', 'max', 'argmax']);

/** Operations that engines run as one kernel: what they decompose into is never there. */
const KERNELS: ReadonlySet<OpName> = new Set(['rmsNorm', 'layerNorm', 'silu', 'gelu', 'geluTanh', 'relu', 'rope']);

/**
 * Matrix products and values of a graph, and the most bytes of values that live at once when it is computed in order. Leaves do not count: the
 * weights of a block are counted as such.
 */
export function graphCost(roots: readonly Tensor[]): Cost {
  const order = inOrder(roots);
  const users = new Map<Tensor, number>();
  for (const node of order) for (const memory of memoriesOf(node)) users.set(memory, (users.get(memory) ?? 0) + 1);
  let flops = 0;
  let elements = 0;
  let live = 0;
  let bytes = 0;
  for (const node of order) {
    if (node.source.kind === 'leaf') continue;
    const { op, inputs, attributes } = node.source;
    const isOwner = memoryOf(node) === node;
    if (op === 'matmul') flops += 2 * node.size * inputs[0].shape[inputs[0].rank - (attributes.transposeA ? 2 : 1)];
    else if (isOwner) elements += REDUCTIONS.has(op) ? inputs[0].size : node.size;
    if (isOwner) live += node.size * bytesPerElement[node.dtype];
    bytes = Math.max(bytes, live);
    for (const memory of memoriesOf(node)) {
      const left = (users.get(memory) ?? 0) - 1;
      users.set(memory, left);
      if (left === 0 && memory.source.kind === 'expression') live -= memory.size * bytesPerElement[memory.dtype];
    }
  }
  return { flops, elements, bytes };
}

function isComposite({ source }: Tensor): boolean {
  return source.kind === 'expression' && source.op in composites && !KERNELS.has(source.op);
}

function inputsOf(node: Tensor): readonly Tensor[] {
  if (node.source.kind === 'leaf') return [];
  return isComposite(node) ? [expand(node)] : node.source.inputs;
}

/** Whose memory a node's elements lie in: a reshaped value is where it was before, and a composite one where its decomposition is. */
function memoryOf(node: Tensor): Tensor {
  let memory = node;
  while (memory.source.kind === 'expression' && (isComposite(memory) || memory.source.op === 'reshape')) memory = inputsOf(memory)[0];
  return memory;
}

/** What a node reads, each piece of memory once. A view reads nothing: whoever reads it does. */
function memoriesOf(node: Tensor): Set<Tensor> {
  return new Set(memoryOf(node) === node ? inputsOf(node).map(memoryOf) : []);
}

/** Inputs before users, each node once. */
function inOrder(roots: readonly Tensor[]): Tensor[] {
  const order: Tensor[] = [];
  const seen = new Set<Tensor>();
  const stack = roots.map((node) => ({ node, isDone: false }));
  for (let frame = stack.pop(); frame; frame = stack.pop()) {
    const { node, isDone } = frame;
    if (isDone) order.push(node);
    if (isDone || seen.has(node)) continue;
    seen.add(node);
    stack.push({ node, isDone: true });
    for (const input of inputsOf(node)) stack.push({ node: input, isDone: false });
  }
  return order;
}
