// A linear layer that rotates its input before another one reads it.
import {
  DenseLinear,
  type Linear,
  type LinearRestorer,
  type LinearState,
  type QuantizablePart,
  quantizablePart,
  type Tensor,
  type TensorMap,
} from '@lowbit/core';
import { z } from 'zod';
import { parseAttributes, requirePart, requireTensor } from './linear-state.js';
import { checkRotation, type Rotation, rotateFeatures } from './rotation.js';

export interface RotatedParts {
  readonly base: Linear;
  readonly rotation: Rotation;
}

/**
 * y = base(x R) with an orthogonal R, kind 'rotated': the online rotation of QuaRot (arXiv 2404.00456, §4), whose inverse lies in the
 * base's weight. Its effective weight is W Rᵀ, in terms of the input before the rotation.
 */
export class RotatedLinear implements Linear {
  readonly kind = 'rotated';
  readonly base: Linear;
  readonly rotation: Rotation;

  /** @throws ROTATION when the rotation does not fit the base's inputs. */
  constructor({ base, rotation }: RotatedParts) {
    checkRotation(rotation, base.inFeatures);
    this.base = base;
    this.rotation = rotation;
  }

  get inFeatures(): number {
    return this.base.inFeatures;
  }

  get outFeatures(): number {
    return this.base.outFeatures;
  }

  /** A Hadamard factor counts 16 bits an entry and a matrix 32, as they are stored. */
  get storageBits(): number {
    const { rotation } = this;
    return this.base.storageBits + (rotation.kind === 'matrix' ? 32 * rotation.matrix.size : 16 * (rotation.factor?.size ?? 0));
  }

  get quantizable(): QuantizablePart {
    const inner = quantizablePart(this.base);
    const { reads } = inner;
    const rotated = (x: Tensor): Tensor => rotateFeatures(x, this.rotation);
    return {
      ...inner,
      reads: reads ? (x) => reads(rotated(x)) : rotated,
      replace: (linear) => this.over(inner.replace(linear)),
    };
  }

  forward(x: Tensor): Tensor {
    return this.base.forward(rotateFeatures(x, this.rotation));
  }

  effectiveWeight(): Tensor {
    return rotateFeatures(this.base.effectiveWeight(), this.rotation, { transpose: true });
  }

  /** Merged where the base reads its input as it is; else the rotation stays before the base. */
  withWeight(weight: Tensor): Linear {
    const merged = this.base.withWeight(weight);
    return merged instanceof DenseLinear ? merged : this.over(this.base.withWeight(rotateFeatures(weight, this.rotation)));
  }

  /** The same rotation before another layer. */
  over(base: Linear): RotatedLinear {
    return new RotatedLinear({ base, rotation: this.rotation });
  }

  map(map: TensorMap): RotatedLinear {
    const { rotation } = this;
    return new RotatedLinear({
      base: this.base.map((t, name) => map(t, `base.${name}`)),
      rotation:
        rotation.kind === 'matrix'
          ? { ...rotation, matrix: map(rotation.matrix, 'matrix') }
          : { ...rotation, factor: rotation.factor && map(rotation.factor, 'factor') },
    });
  }

  state(): LinearState {
    const { kind, rotation } = this;
    const parts = { base: this.base.state() };
    if (rotation.kind === 'matrix') return { kind, attributes: { rotation: 'matrix' }, tensors: { matrix: rotation.matrix }, parts };
    const { size, blocks, factor } = rotation;
    return {
      kind,
      attributes: { rotation: 'hadamard', size, blocks },
      tensors: factor ? { factor } : {},
      half: factor ? ['factor'] : [],
      parts,
    };
  }
}

const attributes = z.discriminatedUnion('rotation', [
  z.object({ rotation: z.literal('hadamard'), size: z.int().positive(), blocks: z.int().positive() }),
  z.object({ rotation: z.literal('matrix') }),
]);

/** Rebuilds a `RotatedLinear` from its state. */
export const restoreRotated: LinearRestorer = (state, restore) => {
  const parsed = parseAttributes(state, attributes);
  const rotation: Rotation =
    parsed.rotation === 'matrix'
      ? { kind: 'matrix', matrix: requireTensor(state, 'matrix') }
      : { kind: 'hadamard', size: parsed.size, blocks: parsed.blocks, factor: state.tensors.factor };
  return new RotatedLinear({ base: restore(requirePart(state, 'base')), rotation });
};
