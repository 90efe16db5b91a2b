// A low-rank correction or adapter beside another linear layer.
import {
  add,
  DenseLinear,
  formatShape,
  type Linear,
  type LinearRestorer,
  type LinearState,
  LowbitError,
  linear,
  matmul,
  mul,
  sub,
  type Tensor,
  type TensorMap,
} from '@lowbit/core';
import { z } from 'zod';
import { parseAttributes, requirePart, requireTensor } from './linear-state.js';
import type { ScaleDtype } from './range.js';

export interface LowRankParts {
  readonly base: Linear;
  /** [rank, in]: LoRA's A. */
  readonly down: Tensor;
  /** [out, rank]: LoRA's B. */
  readonly up: Tensor;
  /** Factor of the correction, α/rank in LoRA. 1 by default. */
  readonly scaling?: number;
  /** How the factors are stored, 'float32' by default. 'float16' is a promise that every value fits it. */
  readonly factorDtype?: ScaleDtype;
}

/** y = base(x) + scaling · up · (down · x), kind 'low-rank' (LoRA, arXiv 2106.09685). */
export class LowRankLinear implements Linear {
  readonly kind = 'low-rank';
  readonly base: Linear;
  readonly down: Tensor;
  readonly up: Tensor;
  readonly scaling: number;
  readonly factorDtype: ScaleDtype;

  /** @throws SHAPE_FACTORS when the factors do not fit the base or each other. */
  constructor({ base, down, up, scaling = 1, factorDtype = 'float32' }: LowRankParts) {
    const fits =
      down.rank === 2 &&
      up.rank === 2 &&
      down.shape[1] === base.inFeatures &&
      up.shape[0] === base.outFeatures &&
      down.shape[0] === up.shape[1];
    if (!fits) {
      const factors = `down ${formatShape(down.shape)} and up ${formatShape(up.shape)}`;
      throw new LowbitError(
        'SHAPE_FACTORS',
        `a low-rank correction of [${base.outFeatures}, ${base.inFeatures}] needs down [rank, in] and up [out, rank], got ${factors}`,
      );
    }
    this.base = base;
    this.down = down;
    this.up = up;
    this.scaling = scaling;
    this.factorDtype = factorDtype;
  }

  get rank(): number {
    return this.down.shape[0];
  }

  get inFeatures(): number {
    return this.base.inFeatures;
  }

  get outFeatures(): number {
    return this.base.outFeatures;
  }

  get storageBits(): number {
    return this.base.storageBits + (this.down.size + this.up.size) * (this.factorDtype === 'float16' ? 16 : 32);
  }

  forward(x: Tensor): Tensor {
    return add(this.base.forward(x), this.correct(x));
  }

  /** What is added to the base's output: scaling · up · (down · x). */
  correct(x: Tensor): Tensor {
    return mul(linear(linear(x, this.down), this.up), this.scaling);
  }

  effectiveWeight(): Tensor {
    return add(this.base.effectiveWeight(), this.correction());
  }

  /** Merged where the base reads its input as it is; else the correction, which reads the input unchanged, stays beside the base. */
  withWeight(weight: Tensor): Linear {
    const merged = this.base.withWeight(weight);
    return merged instanceof DenseLinear ? merged : this.with({ base: this.base.withWeight(sub(weight, this.correction())) });
  }

  /** The layer with some parts replaced. */
  with(parts: Partial<LowRankParts>): LowRankLinear {
    const { base, down, up, scaling, factorDtype } = this;
    return new LowRankLinear({ base, down, up, scaling, factorDtype, ...parts });
  }

  map(map: TensorMap): LowRankLinear {
    return this.with({
      base: this.base.map((t, name) => map(t, `base.${name}`)),
      down: map(this.down, 'down'),
      up: map(this.up, 'up'),
    });
  }

  state(): LinearState {
    return {
      kind: this.kind,
      attributes: { scaling: this.scaling, factorDtype: this.factorDtype },
      tensors: { down: this.down, up: this.up },
      half: this.factorDtype === 'float16' ? ['down', 'up'] : [],
      parts: { base: this.base.state() },
    };
  }

  /** scaling · up · down, [out, in]. */
  private correction(): Tensor {
    return mul(matmul(this.up, this.down), this.scaling);
  }
}

const attributes = z.object({ scaling: z.number(), factorDtype: z.enum(['float16', 'float32']) });

/** Rebuilds a `LowRankLinear` from its state. */
export const restoreLowRank: LinearRestorer = (state, restore) =>
  new LowRankLinear({
    ...parseAttributes(state, attributes),
    base: restore(requirePart(state, 'base')),
    down: requireTensor(state, 'down'),
    up: requireTensor(state, 'up'),
  });
