// The structure of an expression graph: its nodes in order, its leaves, and a key that equals that of any graph which differs only
// in the elements of its leaves.
import { type CompositeName, composites, expand } from './ops/index.js';
import type { Expression, Tensor } from './tensor.js';

interface GraphNode {
  readonly tensor: Tensor;
  readonly expression: Expression;
  /** Value numbers. */
  readonly inputs: readonly number[];
}

/** Values are numbered from 0 in order of first visit; each is a leaf or the output of a node. Nodes that compute the same are one. */
export interface Structure {
  readonly key: string;
  /** Leaves by value number. */
  readonly leaves: ReadonlyMap<number, Tensor>;
  /** Nodes by value number, inputs before users. */
  readonly nodes: ReadonlyMap<number, GraphNode>;
  /** Value number of each root. */
  readonly roots: readonly number[];
}

/** JSON has no NaN, no infinities and no −0: without this, programs that differ in them would be taken for one. */
function exactNumber(_name: string, value: unknown): unknown {
  return typeof value === 'number' && (!Number.isFinite(value) || Object.is(value, -0)) ? `#${Object.is(value, -0) ? '-0' : value}` : value;
}

export interface StructureOptions {
  /** Whether the backend runs a composite as one kernel. Default: no composite. */
  readonly fuses?: (op: CompositeName, node: Tensor) => boolean;
  /**
   * What a node's last input needs comes before what its first one needs. Default: the first one's before, so that in a chain of products the
   * weight of each is dequantized right before it, and few such weights exist at a time.
   */
  readonly lastInputFirst?: boolean;
}

/**
 * Orders the graph below the roots; `detach` and `straightThrough` are no nodes, since their values are those of others. Composites that `fuses` accepts stay single nodes, unless a gradient has expanded them already:
 * then the forward pass shares the expansion's values.
 */
export function structureOf(roots: readonly Tensor[], { fuses = () => false, lastInputFirst = false }: StructureOptions = {}): Structure {
  const numbers = new Map<Tensor, number>();
  const known = new Map<string, number>();
  let count = 0;
  const leaves = new Map<number, Tensor>();
  const nodes = new Map<number, GraphNode>();
  const parts: string[] = [];

  const aliasOf = (node: Tensor): Tensor => {
    let target = node;
    while (target.source.kind === 'expression') {
      const { op, inputs } = target.source;
      if (op in composites && (target.expansion || !fuses(op as CompositeName, target))) target = expand(target);
      else if (op === 'detach' || op === 'straightThrough') target = inputs[0];
      else break;
    }
    return target;
  };

  const visit = (root: Tensor): number => {
    const stack: Tensor[] = [aliasOf(root)];
    while (stack.length > 0) {
      const node = stack[stack.length - 1];
      if (numbers.has(node)) {
        stack.pop();
        continue;
      }
      if (node.source.kind === 'leaf') {
        stack.pop();
        parts.push(`${node.dtype}[${node.shape}]`);
        leaves.set(count, node);
        numbers.set(node, count++);
        continue;
      }
      const inputs = node.source.inputs.map(aliasOf);
      const pending = inputs.filter((input) => !numbers.has(input));
      if (pending.length > 0) {
        stack.push(...(lastInputFirst ? pending : pending.reverse()));
        continue;
      }
      stack.pop();
      const indices = inputs.map((input) => numbers.get(input) as number);
      const signature = `${node.source.op}(${indices})${JSON.stringify(node.source.attributes, exactNumber)}`;
      const twin = known.get(signature);
      if (twin !== undefined) {
        numbers.set(node, twin);
        continue;
      }
      parts.push(signature);
      known.set(signature, count);
      nodes.set(count, { tensor: node, expression: node.source, inputs: indices });
      numbers.set(node, count++);
    }
    return numbers.get(aliasOf(root)) as number;
  };

  const rootNumbers = roots.map(visit);
  return { key: `${parts.join(';')}→${rootNumbers}`, leaves, nodes, roots: rootNumbers };
}

/** For each node, the values that no later node reads and that are no root's: they can be freed after it. */
export function lastUses({ nodes, roots }: Structure): ReadonlyMap<number, readonly number[]> {
  const needed = new Set(roots);
  const dead = new Map<number, readonly number[]>();
  for (const [number, { inputs }] of [...nodes].reverse()) {
    dead.set(
      number,
      [...new Set(inputs)].filter((input) => !needed.has(input)),
    );
    for (const input of inputs) needed.add(input);
  }
  return dead;
}
