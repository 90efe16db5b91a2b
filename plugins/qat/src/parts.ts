// The layer within wrappers whose weight is trained: activation quantizers, rotations, outlier columns and low-rank corrections stay around it.
import {
  type Block,
  DenseLinear,
  type Linear,
  LowbitError,
  matmul,
  mul,
  type QuantizablePart,
  quantizablePart,
  sub,
  type Tensor,
} from '@lowbit/core';
import { LowRankLinear } from '@lowbit/quant';

export interface TrainedPart extends Pick<QuantizablePart, 'linear' | 'replace'> {
  /** What the weight behind the codes is, given the full-precision weight of all that weight quantizers see: what corrections add is left out. */
  latentFrom(weight: Tensor): Tensor;
}

/** @throws QAT_LATENT from `latentFrom` when a correction reads another basis than the layer does. */
export function trainedPart(linear: Linear, path: string): TrainedPart {
  const part = quantizablePart(linear);
  const { linear: corrected } = part;
  if (!(corrected instanceof LowRankLinear)) return { ...part, latentFrom: (weight) => weight };
  const inner = trainedPart(corrected.base, path);
  return {
    linear: inner.linear,
    replace: (replacement) => part.replace(corrected.with({ base: inner.replace(replacement) })),
    latentFrom(weight) {
      if (inner.linear.inFeatures !== corrected.inFeatures || quantizablePart(corrected.base).reads) {
        const remedy = "use latent 'dequantized', or put the correction after this step";
        throw new LowbitError('QAT_LATENT', `${path}: its low-rank correction does not read what its codes read; ${remedy}`);
      }
      return inner.latentFrom(sub(weight, mul(matmul(corrected.up, corrected.down), corrected.scaling)));
    },
  };
}

/** Whether a block has a targeted Linear whose weight is dense: it has no codes before training, so what was given cannot be handed back. */
export function hasDenseTarget({ path, linears }: Block, isTargeted: (path: string) => boolean): boolean {
  return Object.entries(linears).some(([name, linear]) => {
    const whole = `${path}.${name}`;
    return isTargeted(whole) && trainedPart(linear, whole).linear instanceof DenseLinear;
  });
}
