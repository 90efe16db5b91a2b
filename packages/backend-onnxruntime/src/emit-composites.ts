// Composites that ONNX Runtime has one kernel for. Everything else runs as its decomposition.
import { bitPlanes, type CompositeName, type PlaneLayout, type Tensor } from '@lowbit/core';
import { type Emitter, MICROSOFT } from './emit-primitives.js';
import type { OnnxGraph } from './onnx-graph.js';

interface Fusion {
  /** Whether the kernel computes this node; the decomposition runs otherwise. */
  accepts(node: Tensor): boolean;
  readonly emit: Emitter;
}

const inputsOf = (node: Tensor): readonly Tensor[] => (node.source.kind === 'expression' ? node.source.inputs : []);

/** Fused kernels by composite. */
export const fusions: Readonly<Partial<Record<CompositeName, Fusion>>> = {
  rmsNorm: {
    // The kernel divides by the width of x and always scales.
    accepts: (node) =>
      node.source.kind === 'expression' && inputsOf(node).length === 2 && node.source.attributes.size === node.shape[node.rank - 1],
    emit: ({ graph, names, attributes }) =>
      graph.node('SimplifiedLayerNormalization', names, {
        axis: { int: -1 },
        epsilon: { float: attributes.epsilon as number },
        stash_type: { int: 1 },
      }),
  },
  silu: {
    accepts: () => true,
    emit: ({ graph, names }) => graph.node('QuickGelu', names, { alpha: { float: 1 } }, MICROSOFT),
  },
  unpackPlanes: {
    accepts: () => true,
    emit: ({ graph, names: [packed], attributes }) => emitUnpacked(graph, packed, attributes as unknown as PlaneLayout),
  },
};

/** Shifts and masks of bytes, in place of the decomposition's float arithmetic. */
function emitUnpacked(graph: OnnxGraph, packed: string, layout: PlaneLayout): string {
  const byte = (value: number): string => graph.initializer([value], [], 'uint8');
  const columns = (name: string, start: number, end: number): string =>
    graph.node('Slice', [name, graph.indices([start]), graph.indices([end]), graph.indices([1])]);
  const shifted = (name: string, direction: string, by: number): string =>
    by === 0 ? name : graph.node('BitShift', [name, byte(by)], { direction: { string: direction } });
  const planes = bitPlanes(layout);
  const parts = planes.map(({ bits, shift, start, bytes }) => {
    const part = planes.length === 1 ? packed : columns(packed, start, start + bytes);
    const perByte = 8 / bits;
    const digits = Array.from({ length: perByte }, (_, i) => {
      const low = shifted(part, 'RIGHT', bits * i);
      return i === perByte - 1 ? low : graph.node('BitwiseAnd', [low, byte(2 ** bits - 1)]);
    });
    const joined = perByte === 1 ? part : graph.node('Concat', digits, { axis: { int: 1 } });
    return shifted(perByte * bytes === layout.inFeatures ? joined : columns(joined, 0, layout.inFeatures), 'LEFT', shift);
  });
  return parts.reduce((a, b) => graph.node('BitwiseOr', [a, b]));
}
