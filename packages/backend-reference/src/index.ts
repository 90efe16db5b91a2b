// @lowbit/backend-reference: evaluates graphs with the table's float64 kernels. Slow on purpose: the oracle of every other backend.
import {
  arrayTypes,
  type Backend,
  composites,
  type DType,
  expand,
  LowbitError,
  primitives,
  type ReferenceArray,
  read,
  type Tensor,
  type TypedArray,
  tensor,
} from '@lowbit/core';

/** Computes tensors in float64 and rounds only what it returns. `float64(t)` gives the unrounded elements. */
export interface ReferenceBackend extends Backend {
  float64(x: Tensor): Promise<Float64Array>;
}

/** The oracle backend. Compiles nothing; keeps nothing. */
export function createReferenceBackend(): ReferenceBackend {
  let evaluations = 0;
  let engineMilliseconds = 0;
  return {
    name: 'reference',
    fingerprint: 'reference',
    get statistics() {
      return { compilations: 0, evaluations, engineMilliseconds };
    },
    async evaluate(tensors) {
      evaluations++;
      const start = performance.now();
      const values = await interpret(tensors);
      engineMilliseconds += performance.now() - start;
      return tensors.map((t) => (t.isLeaf ? t : tensor(round(valueOf(values, t).data, t.dtype), t.shape, t.dtype))) as never;
    },
    async float64(x) {
      return valueOf(await interpret([x]), x).data;
    },
    async dispose() {},
  };
}

function round(data: Float64Array, dtype: DType): TypedArray {
  return new arrayTypes[dtype](data);
}

function valueOf(values: ReadonlyMap<Tensor, ReferenceArray>, node: Tensor): ReferenceArray {
  const value = values.get(node);
  if (!value) throw new LowbitError('INTERNAL', 'a node was used before it was computed');
  return value;
}

async function interpret(tensors: readonly Tensor[]): Promise<Map<Tensor, ReferenceArray>> {
  const values = new Map<Tensor, ReferenceArray>();
  for (const node of topologicalOrder(tensors)) values.set(node, await compute(node, values));
  return values;
}

async function compute(node: Tensor, values: ReadonlyMap<Tensor, ReferenceArray>): Promise<ReferenceArray> {
  const { shape, dtype, source } = node;
  if (source.kind === 'leaf') return { shape, dtype, data: Float64Array.from(await read(node)) };
  if (source.op in composites) return valueOf(values, expand(node));
  const inputs = source.inputs.map((input) => valueOf(values, input));
  return { shape, dtype, data: primitives[source.op as keyof typeof primitives].reference(inputs, source.attributes, node) };
}

/** Inputs before users; a composite stands after its expansion. */
function topologicalOrder(roots: readonly Tensor[]): Tensor[] {
  const order: Tensor[] = [];
  const seen = new Set<Tensor>();
  const stack = roots.map((node) => ({ node, isDone: false }));
  for (let frame = stack.pop(); frame; frame = stack.pop()) {
    const { node, isDone } = frame;
    if (isDone) {
      order.push(node);
      continue;
    }
    if (seen.has(node)) continue;
    seen.add(node);
    stack.push({ node, isDone: true });
    if (node.source.kind === 'leaf') continue;
    const next = node.source.op in composites ? [expand(node)] : node.source.inputs;
    for (const input of next) stack.push({ node: input, isDone: false });
  }
  return order;
}
