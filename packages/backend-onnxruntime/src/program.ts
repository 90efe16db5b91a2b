// Compiles a graph structure into an ONNX Runtime session and runs it.
import { type DType, LowbitError, type Shape, type Structure, type Tensor, type TypedArray } from '@lowbit/core';
import * as ort from 'onnxruntime-node';
import type { Kernels } from './kernels.js';
import { OnnxGraph } from './onnx-graph.js';

/** A compiled graph: leaves in, elements of the roots out. */
export interface Program {
  /** Leaves are elements in host memory, or tensors on the device. `outputs[i]` receives the elements of root i. Returns the milliseconds spent in the engine. */
  run(leaves: readonly (TypedArray | ort.Tensor)[], outputs: readonly TypedArray[]): Promise<number>;
  release(): Promise<void>;
}

/** Value numbers of the leaves in feeding order. */
export function leafOrder(structure: Structure): number[] {
  return [...structure.leaves.keys()];
}

interface OnnxModel {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Name, type and shape of the outputs, root by root. */
  readonly outputs: readonly { readonly name: string; readonly dtype: DType; readonly shape: Shape }[];
}

/** The ONNX model of a graph. Inputs are named x<n>. */
function buildModel(structure: Structure, kernels: Kernels): OnnxModel {
  const graph = new OnnxGraph();
  const names = new Map<number, string>();
  for (const [number, leaf] of structure.leaves) {
    names.set(number, `x${number}`);
    graph.input(`x${number}`, leaf.shape, leaf.dtype);
  }
  const nameOf = (number: number): string => names.get(number) as string;
  const tensorOf = (number: number): Tensor => structure.leaves.get(number) ?? (structure.nodes.get(number)?.tensor as Tensor);
  for (const [number, { tensor, expression, inputs }] of structure.nodes) {
    if (tensor.size === 0) {
      // Some kernels refuse to compute nothing, and a reshape reads 0 as a size to keep.
      names.set(number, graph.initializer([], tensor.shape, tensor.dtype));
      continue;
    }
    const emit = kernels.emitterOf(expression.op);
    names.set(
      number,
      emit({ graph, names: inputs.map(nameOf), inputs: inputs.map(tensorOf), attributes: expression.attributes, output: tensor }),
    );
  }
  const taken = new Set<string>();
  const outputs = structure.roots.map((number) => {
    const { shape, dtype } = tensorOf(number);
    // An ONNX output must be the value of a node, once.
    const isFree = graph.isNodeOutput(nameOf(number)) && !taken.has(nameOf(number));
    const name = isFree ? nameOf(number) : graph.node('Identity', [nameOf(number)]);
    taken.add(name);
    graph.output(name, shape, dtype);
    return { name, dtype, shape };
  });
  return { bytes: graph.encode(), outputs };
}

/** @throws ONNX_COMPILE when the engine rejects the graph; ONNX_RUN when a run fails (an index out of range, no memory). */
export async function compile(structure: Structure, kernels: Kernels, options: ort.InferenceSession.SessionOptions): Promise<Program> {
  const { bytes, outputs } = buildModel(structure, kernels);
  const session = await ort.InferenceSession.create(bytes, options).catch((cause: unknown) => {
    throw new LowbitError('ONNX_COMPILE', `ONNX Runtime rejected a graph of ${structure.nodes.size} nodes: ${String(cause)}`, { cause });
  });
  const inputs = leafOrder(structure).map((number) => {
    const { dtype, shape } = structure.leaves.get(number) as Tensor;
    return { name: `x${number}`, dtype, shape };
  });
  return {
    async run(leaves, results) {
      const feeds: Record<string, ort.Tensor> = {};
      inputs.forEach(({ name, dtype, shape }, i) => {
        const leaf = leaves[i];
        feeds[name] = leaf instanceof ort.Tensor ? leaf : new ort.Tensor(dtype, leaf as never, shape);
      });
      const fetches: Record<string, ort.Tensor> = {};
      outputs.forEach(({ name, dtype, shape }, i) => {
        fetches[name] = new ort.Tensor(dtype, results[i] as never, shape);
      });
      const start = performance.now();
      await session.run(feeds, fetches).catch((cause: unknown) => {
        throw new LowbitError('ONNX_RUN', `ONNX Runtime failed on a graph of ${structure.nodes.size} nodes: ${String(cause)}`, { cause });
      });
      return performance.now() - start;
    },
    release: () => session.release(),
  };
}
