// Evaluates a graph in float64 with the table's reference kernels. Core's tests have no backend: those depend on core.
import { composites, expand, LowbitError, primitives, type ReferenceArray, read, type Tensor } from '../src/index.js';

/** Elements of each tensor, unrounded. */
export async function interpret(...roots: readonly Tensor[]): Promise<Float64Array[]> {
  const values = new Map<Tensor, ReferenceArray>();
  const stack = [...roots];
  while (stack.length > 0) {
    const node = stack[stack.length - 1];
    const pending = sourcesOf(node).filter((source) => !values.has(source));
    if (pending.length > 0) {
      stack.push(...pending);
      continue;
    }
    stack.pop();
    if (!values.has(node)) values.set(node, await compute(node, values));
  }
  return roots.map((root) => valueOf(root, values).data);
}

function sourcesOf({ source }: Tensor): readonly Tensor[] {
  return source.kind === 'leaf' ? [] : source.inputs;
}

async function compute(node: Tensor, values: ReadonlyMap<Tensor, ReferenceArray>): Promise<ReferenceArray> {
  const { shape, dtype, source } = node;
  if (source.kind === 'leaf') return { shape, dtype, data: Float64Array.from(await read(node)) };
  if (source.op in composites) return { shape, dtype, data: (await interpret(expand(node)))[0] };
  const inputs = source.inputs.map((input) => valueOf(input, values));
  return { shape, dtype, data: primitives[source.op as keyof typeof primitives].reference(inputs, source.attributes, node) };
}

function valueOf(node: Tensor, values: ReadonlyMap<Tensor, ReferenceArray>): ReferenceArray {
  const value = values.get(node);
  if (!value) throw new LowbitError('INTERNAL', 'a node was used before it was computed');
  return value;
}
