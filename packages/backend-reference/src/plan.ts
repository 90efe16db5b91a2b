// The order in which a graph is computed: inputs before users, equal nodes once.
import { composites, expand, type Tensor } from '@lowbit/core';

interface Step {
  readonly node: Tensor;
  /** Nodes of earlier steps. */
  readonly inputs: readonly Tensor[];
}

interface Plan {
  readonly steps: readonly Step[];
  /** The node of the step that computes a node: of two that are equal the first, and for a composite one its expansion. */
  readonly nodeOf: ReadonlyMap<Tensor, Tensor>;
}

/** Plans the computation of everything below the roots. */
export function planOf(roots: readonly Tensor[]): Plan {
  const steps: Step[] = [];
  const nodeOf = new Map<Tensor, Tensor>();
  const numbers = new Map<Tensor, number>();
  const known = new Map<string, Tensor>();

  const place = (node: Tensor): void => {
    const inputs = sourcesOf(node).map((input) => nodeOf.get(input) as Tensor);
    if (isComposite(node)) {
      nodeOf.set(node, inputs[0]);
      return;
    }
    const signature = signatureOf(
      node,
      inputs.map((input) => numbers.get(input) as number),
    );
    const twin = signature === undefined ? undefined : known.get(signature);
    nodeOf.set(node, twin ?? node);
    if (twin) return;
    if (signature !== undefined) known.set(signature, node);
    numbers.set(node, steps.length);
    steps.push({ node, inputs });
  };

  const seen = new Set<Tensor>();
  const stack = roots.map((node) => ({ node, isDone: false }));
  for (let frame = stack.pop(); frame; frame = stack.pop()) {
    const { node, isDone } = frame;
    if (isDone) {
      place(node);
      continue;
    }
    if (seen.has(node)) continue;
    seen.add(node);
    stack.push({ node, isDone: true });
    for (const input of sourcesOf(node)) stack.push({ node: input, isDone: false });
  }
  return { steps, nodeOf };
}

function isComposite({ source }: Tensor): boolean {
  return source.kind === 'expression' && source.op in composites;
}

function sourcesOf(node: Tensor): readonly Tensor[] {
  if (node.source.kind === 'leaf') return [];
  return isComposite(node) ? [expand(node)] : node.source.inputs;
}

/** Equal for nodes that compute the same; undefined for leaves. */
function signatureOf({ source }: Tensor, inputs: readonly number[]): string | undefined {
  if (source.kind === 'leaf') return undefined;
  // JSON has no NaN, no infinities and no −0.
  const attributes = JSON.stringify(source.attributes, (_name, value: unknown) =>
    typeof value === 'number' ? `#${Object.is(value, -0) ? '-0' : value}` : value,
  );
  return `${source.op}(${inputs})${attributes}`;
}
