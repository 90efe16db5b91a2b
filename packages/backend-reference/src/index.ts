// @lowbit/backend-reference: evaluates graphs with the table's float64 kernels. Slow on purpose: the oracle of every other backend.
import {
  arrayTypes,
  type Backend,
  type DType,
  LowbitError,
  lastUses,
  type PrimitiveName,
  primitives,
  type ReferenceArray,
  read,
  structureOf,
  type Tensor,
  type TypedArray,
  tensor,
} from '@lowbit/core';
import { MemoryMeter } from './memory-meter.js';

export { MemoryMeter };

export interface ReferenceBackendOptions {
  /** Counts what the evaluations keep in memory; without it nothing is tracked. */
  readonly meter?: MemoryMeter | undefined;
}

/** Computes tensors in float64 and rounds only what it returns. `float64(t)` gives the unrounded elements. */
export interface ReferenceBackend extends Backend {
  float64(x: Tensor): Promise<Float64Array>;
}

/** The oracle backend. Compiles nothing; keeps nothing. */
export function createReferenceBackend({ meter }: ReferenceBackendOptions = {}): ReferenceBackend {
  let evaluations = 0;
  let engineMilliseconds = 0;
  let isDisposed = false;
  return {
    name: 'reference',
    fingerprint: 'reference',
    get statistics() {
      return { compilations: 0, evaluations, engineMilliseconds };
    },
    async evaluate(tensors, { release = [] } = {}) {
      if (isDisposed) throw new LowbitError('BACKEND_DISPOSED', 'reference: was used after dispose(); create another one');
      evaluations++;
      const start = performance.now();
      const values = await interpret(tensors, meter);
      engineMilliseconds += performance.now() - start;
      const results = tensors.map((t, i) => (t.isLeaf ? t : tensor(round(values[i].data, t.dtype), t.shape, t.dtype)));
      for (const result of results) meter?.hold(result);
      for (const leaf of release) meter?.release(leaf);
      return results as never;
    },
    async float64(x) {
      return (await interpret([x], meter))[0].data;
    },
    async dispose() {
      isDisposed = true;
    },
  };
}

function round(data: Float64Array, dtype: DType): TypedArray {
  return new arrayTypes[dtype](data);
}

/** The values of the roots, in their order. Every other one is dropped after its last use. */
async function interpret(roots: readonly Tensor[], meter: MemoryMeter | undefined): Promise<ReferenceArray[]> {
  // The last input and the last root first: the order that the bytes of a training step are calculated for.
  const structure = structureOf([...roots].reverse(), { lastInputFirst: true });
  const { leaves, nodes } = structure;
  const results = [...structure.roots].reverse();
  const dead = lastUses(structure);
  const values = new Map<number, ReferenceArray>();
  const valueOf = (number: number): ReferenceArray => values.get(number) as ReferenceArray;
  const working = await meter?.begin([...leaves.values()]);
  for (let number = 0; number < leaves.size + nodes.size; number++) {
    const { tensor: node, inputs } = nodes.get(number) ?? { tensor: leaves.get(number) as Tensor, inputs: [] };
    const value = await compute(node, inputs.map(valueOf));
    values.set(number, value);
    working?.add(node, value.data);
    for (const input of dead.get(number) ?? []) {
      working?.remove(valueOf(input).data);
      values.delete(input);
    }
  }
  return results.map(valueOf);
}

async function compute(node: Tensor, inputs: readonly ReferenceArray[]): Promise<ReferenceArray> {
  const { shape, dtype, source } = node;
  if (source.kind === 'leaf') return { shape, dtype, data: Float64Array.from(await read(node)) };
  return { shape, dtype, data: primitives[source.op as PrimitiveName].reference(inputs, source.attributes, node) };
}
