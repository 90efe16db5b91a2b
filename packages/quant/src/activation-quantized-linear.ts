// A linear layer that reads its input through a per-token quantizer.
import {
  type Linear,
  type LinearRestorer,
  type LinearState,
  type QuantizablePart,
  quantizablePart,
  type Tensor,
  type TensorMap,
} from '@lowbit/core';
import { z } from 'zod';
import { type ActivationOptions, checkActivationOptions, quantizeActivations } from './activations.js';
import { resolveGroupSize } from './groups.js';
import { parseAttributes, requirePart } from './linear-state.js';

/** y = base(quantizeActivations(x)), kind 'activation-quantized'. It stores nothing of its own: scales are found at run time. */
export class ActivationQuantizedLinear implements Linear {
  readonly kind = 'activation-quantized';
  readonly base: Linear;
  readonly bits: number;
  readonly clipRatio: number;
  readonly groupSize: number;

  /** @throws ACTIVATION_BITS, CLIP_RATIO, or GROUP_SIZE when the base's inputs do not divide. */
  constructor(base: Linear, options: ActivationOptions) {
    checkActivationOptions(options);
    resolveGroupSize({ path: 'activations', inFeatures: base.inFeatures }, options.groupSize ?? -1);
    this.base = base;
    this.bits = options.bits;
    this.clipRatio = options.clipRatio ?? 1;
    this.groupSize = options.groupSize ?? -1;
  }

  get inFeatures(): number {
    return this.base.inFeatures;
  }

  get outFeatures(): number {
    return this.base.outFeatures;
  }

  get storageBits(): number {
    return this.base.storageBits;
  }

  get quantizable(): QuantizablePart {
    const inner = quantizablePart(this.base);
    return { ...inner, replace: (linear) => this.over(inner.replace(linear)) };
  }

  forward(x: Tensor): Tensor {
    return this.base.forward(quantizeActivations(x, this));
  }

  effectiveWeight(): Tensor {
    return this.base.effectiveWeight();
  }

  withWeight(weight: Tensor): ActivationQuantizedLinear {
    return this.over(this.base.withWeight(weight));
  }

  map(map: TensorMap): ActivationQuantizedLinear {
    return this.over(this.base.map((t, name) => map(t, `base.${name}`)));
  }

  /** The same quantizer before another layer. */
  over(base: Linear): ActivationQuantizedLinear {
    return new ActivationQuantizedLinear(base, this);
  }

  state(): LinearState {
    const { bits, clipRatio, groupSize } = this;
    return { kind: this.kind, attributes: { bits, clipRatio, groupSize }, tensors: {}, parts: { base: this.base.state() } };
  }
}

const attributes = z.object({ bits: z.int(), clipRatio: z.number(), groupSize: z.int() });

/** Rebuilds an `ActivationQuantizedLinear` from its state. */
export const restoreActivationQuantized: LinearRestorer = (state, restore) =>
  new ActivationQuantizedLinear(restore(requirePart(state, 'base')), parseAttributes(state, attributes));
