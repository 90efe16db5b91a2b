// Normalisation layers.

import type { TensorMap } from './linear.js';
import { layerNorm, rmsNorm } from './ops/index.js';
import type { Tensor } from './tensor.js';

/** RMS or layer normalisation over the last axis. */
export class Norm {
  readonly kind: 'rms' | 'layer';
  /**
   * Divisor of the mean square. It is the model's width, not the width of the tensor that goes by: a transform that widens
   * the residual stream isometrically (QUAD) leaves it alone.
   */
  readonly size: number;
  readonly epsilon: number;
  /** γ [width], or none once it has been folded into the layers that read it. */
  readonly weight: Tensor | undefined;
  readonly bias: Tensor | undefined;

  constructor(kind: 'rms' | 'layer', size: number, epsilon: number, weight?: Tensor, bias?: Tensor) {
    this.kind = kind;
    this.size = size;
    this.epsilon = epsilon;
    this.weight = weight;
    this.bias = bias;
  }

  /** [..., width] → [..., width]. */
  forward(x: Tensor): Tensor {
    return this.kind === 'rms'
      ? rmsNorm(x, this.weight, { size: this.size, epsilon: this.epsilon })
      : layerNorm(x, this.weight, this.bias, { epsilon: this.epsilon });
  }

  /** A norm with other parameters and the same kind, size and epsilon. */
  with(parts: { weight: Tensor | undefined; bias?: Tensor | undefined }): Norm {
    return new Norm(this.kind, this.size, this.epsilon, parts.weight, parts.bias);
  }

  map(map: TensorMap): Norm {
    return this.with({ weight: this.weight && map(this.weight, 'weight'), bias: this.bias && map(this.bias, 'bias') });
  }
}
