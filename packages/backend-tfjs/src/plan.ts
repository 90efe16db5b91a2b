// The order in which a graph is computed: inputs before users, equal nodes once, and when each value is needed no more.
import { composites, type Expression, expand, type Tensor } from '@lowbit/core';

interface Step {
  readonly node: Tensor;
  readonly expression: Expression;
  /** Numbers of the values that it reads. */
  readonly inputs: readonly number[];
  /** Number of the value that it makes. */
  readonly output: number;
  /** Numbers of the values that no later step reads and that are no result. */
  readonly dead: readonly number[];
}

/** Values are numbered in the order in which they come to be; each is a leaf's or a step's. */
export interface Plan {
  readonly leaves: ReadonlyMap<number, Tensor>;
  readonly steps: readonly Step[];
  /** The number of each root's value. */
  readonly roots: readonly number[];
}

/** The node that computes what `node` stands for: composites run as their decomposition. */
function computedBy(node: Tensor): Tensor {
  let target = node;
  while (target.source.kind === 'expression') {
    const { op, inputs } = target.source;
    if (op in composites) target = expand(target);
    else if (op === 'detach' || op === 'straightThrough') target = inputs[0];
    else break;
  }
  return target;
}

/** JSON has no NaN, no infinities and no −0: without this, nodes that differ in them would be taken for one. */
function exactNumber(_name: string, value: unknown): unknown {
  return typeof value === 'number' && (!Number.isFinite(value) || Object.is(value, -0)) ? `#${Object.is(value, -0) ? '-0' : value}` : value;
}

/** Plans the computation of everything below the roots. What a product reads is computed right before it, its first input first. */
export function planOf(roots: readonly Tensor[]): Plan {
  const numbers = new Map<Tensor, number>();
  const twins = new Map<string, number>();
  const leaves = new Map<number, Tensor>();
  const steps: Omit<Step, 'dead'>[] = [];
  let count = 0;

  const place = (node: Tensor): number => {
    if (node.source.kind === 'leaf') {
      leaves.set(count, node);
      return count++;
    }
    const inputs = node.source.inputs.map((input) => numbers.get(computedBy(input)) as number);
    const signature = `${node.source.op}(${inputs})${JSON.stringify(node.source.attributes, exactNumber)}`;
    const twin = twins.get(signature);
    if (twin !== undefined) return twin;
    twins.set(signature, count);
    steps.push({ node, expression: node.source, inputs, output: count });
    return count++;
  };

  const visit = (root: Tensor): number => {
    const stack = [computedBy(root)];
    while (stack.length > 0) {
      const node = stack[stack.length - 1];
      const inputs = node.source.kind === 'leaf' || numbers.has(node) ? [] : node.source.inputs.map(computedBy);
      const next = inputs.find((input) => !numbers.has(input));
      if (next) {
        stack.push(next);
        continue;
      }
      stack.pop();
      if (!numbers.has(node)) numbers.set(node, place(node));
    }
    return numbers.get(computedBy(root)) as number;
  };

  const results = roots.map(visit);
  return { leaves, steps: withDeaths(steps, new Set(results)), roots: results };
}

function withDeaths(steps: readonly Omit<Step, 'dead'>[], results: ReadonlySet<number>): Step[] {
  const needed = new Set(results);
  return steps
    .toReversed()
    .map((step) => {
      const dead = [...new Set(step.inputs)].filter((input) => !needed.has(input));
      for (const input of dead) needed.add(input);
      return { ...step, dead };
    })
    .reverse();
}
