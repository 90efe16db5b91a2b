// Composites that ONNX Runtime has one kernel for. Everything else runs as its decomposition.
import { bitPlanes, type CompositeName, type IntegerMatmulBits, largestCodeProduct, type PlaneLayout, type Tensor } from '@lowbit/core';
import { type Emitter, MICROSOFT } from './emit-primitives.js';
import { castTarget, type OnnxGraph } from './onnx-graph.js';

export interface Fusion {
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
  layerNorm: {
    // The kernel always scales.
    accepts: (node) => inputsOf(node).length > 1,
    emit: ({ graph, names, attributes }) =>
      graph.node('LayerNormalization', names, {
        axis: { int: -1 },
        epsilon: { float: attributes.epsilon as number },
        stash_type: { int: 1 },
      }),
  },
  silu: {
    accepts: () => true,
    emit: ({ graph, names }) => graph.node('QuickGelu', names, { alpha: { float: 1 } }, MICROSOFT),
  },
  gelu: {
    accepts: () => true,
    emit: ({ graph, names }) => graph.node('Gelu', names, {}, MICROSOFT),
  },
  geluTanh: {
    accepts: () => true,
    emit: ({ graph, names }) => graph.node('FastGelu', names, {}, MICROSOFT),
  },
  relu: {
    accepts: () => true,
    emit: ({ graph, names }) => graph.node('Relu', names),
  },
  unpackPlanes: {
    accepts: () => true,
    emit: ({ graph, names: [packed], attributes }) => emitUnpacked(graph, packed, attributes as unknown as PlaneLayout),
  },
  integerMatmul: {
    accepts: () => true,
    emit: ({ graph, names: [x, weight], attributes }) => emitIntegerMatmul(graph, x, weight, attributes as unknown as IntegerMatmulBits),
  },
};

/**
 * weight · xᵀ, so that the unsigned codes come first: the engine's kernels multiply uint8 by int8 or uint8 (signed by anything else runs
 * ten times slower), and the weight need not be transposed. Where the processor has no dot product of bytes, the kernel for uint8 by
 * int8 adds pairs of products in 16 bits, which saturate; pairs that could are multiplied as uint8 by uint8, in 32 bits.
 */
function emitIntegerMatmul(graph: OnnxGraph, x: string, weight: string, bits: IntegerMatmulBits): string {
  const transposed = (name: string): string => graph.node('Transpose', [name], { perm: { ints: [1, 0] } });
  if (2 * largestCodeProduct(bits) < 2 ** 15) return transposed(graph.node('MatMulInteger', [weight, transposed(x)]));
  // x + 128: the byte of x with its highest bit flipped.
  const byte = (value: number): string => graph.initializer([value], [], 'uint8');
  const raised = graph.node('BitwiseXor', [graph.node('Cast', [x], { to: castTarget('uint8') }), byte(128)]);
  return transposed(graph.node('MatMulInteger', [weight, transposed(raised), byte(0), byte(128)]));
}

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
