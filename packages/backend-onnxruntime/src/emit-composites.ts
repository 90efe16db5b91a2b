// Composites that ONNX Runtime has one kernel for. Everything else runs as its decomposition.
import type { CompositeName, Tensor } from '@lowbit/core';
import { type Emitter, MICROSOFT } from './emit-primitives.js';

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
};
