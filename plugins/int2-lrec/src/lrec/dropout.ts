// Dropout before an adapter while it is trained: what the adapter does not see of an input, the base still does.
import {
  add,
  cast,
  type Linear,
  type LinearState,
  linear,
  type Model,
  mul,
  type Rng,
  type Tensor,
  type TensorMap,
  tensor,
} from '@lowbit/core';
import { LowRankLinear } from '@lowbit/quant';
import { innerLinear, withInner } from '../adapters/wrapped.js';

/**
 * The model with its adapters behind fresh dropout masks, for inputs of [batch, tokens] and one step: y = base(x) + γ · B A (m ⊙ x)/(1 − p).
 * Tensors keep their names.
 * @param shareOf the share p of a Linear by path.
 */
export function withDropout(model: Model, [batch, tokens]: readonly number[], shareOf: (path: string) => number, rng: Rng): Model {
  let masked = model;
  for (const [index, { path, linears }] of model.blocks.entries()) {
    const changed: Record<string, Linear> = {};
    for (const [name, whole] of Object.entries(linears)) {
      const share = shareOf(`${path}.${name}`);
      const adapted = innerLinear(whole);
      if (share === 0 || !(adapted instanceof LowRankLinear)) continue;
      const shape = [batch, tokens, adapted.inFeatures];
      const draws = rng.at(path, name).uniform(batch * tokens * adapted.inFeatures);
      const mask = tensor(
        Uint8Array.from(draws, (draw) => (draw < share ? 0 : 1)),
        shape,
      );
      changed[name] = withInner(whole, new MaskedAdapter(adapted, mask, share));
    }
    masked = masked.withBlock(index, masked.blocks[index].with({ linears: changed }));
  }
  return masked;
}

/** A `LowRankLinear` whose adapter sees its input through a mask, uint8 [batch, tokens, in]. It exists within a training step. */
class MaskedAdapter implements Linear {
  readonly kind = 'masked-low-rank';
  readonly adapted: LowRankLinear;
  readonly mask: Tensor;
  readonly share: number;

  constructor(adapted: LowRankLinear, mask: Tensor, share: number) {
    this.adapted = adapted;
    this.mask = mask;
    this.share = share;
  }

  get inFeatures(): number {
    return this.adapted.inFeatures;
  }

  get outFeatures(): number {
    return this.adapted.outFeatures;
  }

  get storageBits(): number {
    return this.adapted.storageBits;
  }

  forward(x: Tensor): Tensor {
    const { base, down, up, scaling } = this.adapted;
    const seen = mul(x, cast(this.mask, 'float32'));
    return add(base.forward(x), mul(linear(linear(seen, down), up), scaling / (1 - this.share)));
  }

  effectiveWeight(): Tensor {
    return this.adapted.effectiveWeight();
  }

  withWeight(weight: Tensor): Linear {
    return this.adapted.withWeight(weight);
  }

  map(map: TensorMap): MaskedAdapter {
    return new MaskedAdapter(this.adapted.map(map), map(this.mask, 'mask'), this.share);
  }

  state(): LinearState {
    return this.adapted.state();
  }
}
