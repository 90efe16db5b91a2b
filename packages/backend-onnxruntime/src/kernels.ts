// Which ONNX nodes an operator becomes on a provider: the same for all, but for what a provider lacks or computes badly.
import type { CompositeName, OpName, PrimitiveName, StructureOptions, Tensor } from '@lowbit/core';
import { type Fusion, fusions } from './emit-composites.js';
import { type Emitter, primitiveEmitters } from './emit-primitives.js';
import type { Provider } from './provider.js';
import { webgpuEmitters } from './webgpu-emitters.js';

export interface Kernels extends StructureOptions {
  /** Whether a composite has a kernel of its own; its decomposition runs otherwise. */
  fuses(op: CompositeName, node: Tensor): boolean;
  emitterOf(op: OpName): Emitter;
  /** ONNX Runtime then computes what a weight is dequantized from right before the product that reads it, and not for all products ahead. */
  readonly lastInputFirst: true;
}

/**
 * Composites whose decomposition serves WebGPU better: its layer normalization takes the variance as a difference of two large numbers, and
 * for the integer operators it has no kernels, so that values would travel to the processor and back.
 */
const DECOMPOSED_ON_WEBGPU: readonly CompositeName[] = ['layerNorm', 'unpackPlanes', 'integerMatmul'];

export function kernelsFor(provider: Provider): Kernels {
  const isWebgpu = provider === 'webgpu';
  const emitters: Readonly<Record<PrimitiveName, Emitter>> = isWebgpu ? { ...primitiveEmitters, ...webgpuEmitters } : primitiveEmitters;
  const fusionOf = (op: CompositeName): Fusion | undefined => (isWebgpu && DECOMPOSED_ON_WEBGPU.includes(op) ? undefined : fusions[op]);
  return {
    fuses: (op, node) => fusionOf(op)?.accepts(node) ?? false,
    lastInputFirst: true,
    emitterOf: (op) => fusionOf(op as CompositeName)?.emit ?? emitters[op as PrimitiveName],
  };
}
