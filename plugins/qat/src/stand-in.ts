// What stands for a trained Linear in the shell: a layer some of whose tensors have no elements until a loss gives them some.
import { DenseLinear, type Linear, LowbitError, lazyTensor, type Shape, type Tensor } from '@lowbit/core';
import { type AffineWeight, QuantizedLinear } from '@lowbit/quant';
import { type FakeQuantized, weightOf } from './quantizer/fake-quantizer.js';

export interface StandIn {
  readonly linear: Linear;
  /** Its tensors without elements, each with the graph of what it stands for. */
  expressions(parts: FakeQuantized): readonly (readonly [standIn: Tensor, value: Tensor])[];
}

/** A dense weight: where codes are trained, it is computed once a step. */
export function denseStandIn(shape: Shape, bias: Tensor | undefined, path: string): StandIn {
  const weight = withoutElements(shape, path);
  return { linear: new DenseLinear(weight, bias), expressions: (parts) => [[weight, weightOf(parts)]] };
}

/**
 * Codes that stay, with scales and free offsets that are trained: they are dequantized within the graphs of the model, so that neither a weight nor
 * its gradient outlives the evaluation of its block.
 */
export function frozenStandIn(frozen: AffineWeight, bias: Tensor | undefined, path: string): StandIn {
  const scale = withoutElements(frozen.scale.shape, path);
  const offset = frozen.offset && withoutElements(frozen.offset.shape, path);
  return {
    linear: new QuantizedLinear(frozen.with({ scale, offset }), bias),
    expressions: (parts) => [[scale, parts.scale], ...(offset && parts.zero.kind === 'free' ? [[offset, parts.zero.offset] as const] : [])],
  };
}

function withoutElements(shape: Shape, path: string): Tensor {
  return lazyTensor(shape, 'float32', () => {
    throw new LowbitError(
      'QAT_SHELL',
      `${path}: what is trained is one of a loss's parameters; use lossOf, or put tensorsFor in its place`,
    );
  });
}
