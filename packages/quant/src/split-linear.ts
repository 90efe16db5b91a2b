// A linear layer whose first inputs keep full-precision weights beside another layer for the rest.
import {
  add,
  concat,
  DenseLinear,
  formatShape,
  type Linear,
  type LinearRestorer,
  type LinearState,
  LowbitError,
  linear,
  type QuantizablePart,
  quantizablePart,
  slice,
  type Tensor,
  type TensorMap,
} from '@lowbit/core';
import { z } from 'zod';
import { parseAttributes, requirePart, requireTensor } from './linear-state.js';
import type { ScaleDtype } from './range.js';

export interface SplitParts {
  /** Weights of the first r inputs, [out, r]. */
  readonly outlier: Tensor;
  /** Reads the other inputs; the bias is its own. */
  readonly rest: Linear;
  /** How the columns are stored. 'float16' is a promise that every value fits it. */
  readonly outlierDtype: ScaleDtype;
}

/** y = x[..., :r] outlierᵀ + rest(x[..., r:]), kind 'split': the outlier columns of QUAD (arXiv 2503.19353). */
export class SplitLinear implements Linear {
  readonly kind = 'split';
  readonly outlier: Tensor;
  readonly rest: Linear;
  readonly outlierDtype: ScaleDtype;

  /** @throws SHAPE_OUTLIER when the columns do not fit the rest. */
  constructor({ outlier, rest, outlierDtype }: SplitParts) {
    if (outlier.rank !== 2 || outlier.shape[0] !== rest.outFeatures) {
      throw new LowbitError(
        'SHAPE_OUTLIER',
        `outlier columns beside [${rest.outFeatures}, ${rest.inFeatures}] must be [out, rank], got ${formatShape(outlier.shape)}`,
      );
    }
    this.outlier = outlier;
    this.rest = rest;
    this.outlierDtype = outlierDtype;
  }

  /** Inputs that keep full precision. */
  get rank(): number {
    return this.outlier.shape[1];
  }

  get inFeatures(): number {
    return this.rank + this.rest.inFeatures;
  }

  get outFeatures(): number {
    return this.rest.outFeatures;
  }

  get storageBits(): number {
    return this.rest.storageBits + this.outlier.size * (this.outlierDtype === 'float16' ? 16 : 32);
  }

  get quantizable(): QuantizablePart {
    const { rank } = this;
    const inner = quantizablePart(this.rest);
    const { reads } = inner;
    const replace = (part: Linear): Linear => this.with({ rest: inner.replace(part) });
    if (reads) return { ...inner, reads: (x) => reads(this.#restOf(x)), replace };
    return { ...inner, start: inner.start + rank, end: inner.end + rank, replace };
  }

  forward(x: Tensor): Tensor {
    return add(linear(slice(x, -1, 0, this.rank), this.outlier), this.rest.forward(this.#restOf(x)));
  }

  effectiveWeight(): Tensor {
    return concat([this.outlier, this.rest.effectiveWeight()], 1);
  }

  /** One dense layer where the rest reads its input as it is; else the columns stay apart, stored as float32. */
  withWeight(weight: Tensor): Linear {
    const rest = this.rest.withWeight(this.#restOf(weight));
    if (rest instanceof DenseLinear) return new DenseLinear(weight, rest.bias, rest.bitsPerElement);
    return this.with({ outlier: slice(weight, 1, 0, this.rank), rest, outlierDtype: 'float32' });
  }

  /** The layer with some parts replaced. */
  with(parts: Partial<SplitParts>): SplitLinear {
    const { outlier, rest, outlierDtype } = this;
    return new SplitLinear({ outlier, rest, outlierDtype, ...parts });
  }

  map(map: TensorMap): SplitLinear {
    return this.with({ outlier: map(this.outlier, 'outlier'), rest: this.rest.map((t, name) => map(t, `rest.${name}`)) });
  }

  state(): LinearState {
    return {
      kind: this.kind,
      attributes: { outlierDtype: this.outlierDtype },
      tensors: { outlier: this.outlier },
      half: this.outlierDtype === 'float16' ? ['outlier'] : [],
      parts: { rest: this.rest.state() },
    };
  }

  #restOf(x: Tensor): Tensor {
    return slice(x, -1, this.rank, this.inFeatures);
  }
}

const attributes = z.object({ outlierDtype: z.enum(['float16', 'float32']) });

/** Rebuilds a `SplitLinear` from its state. */
export const restoreSplit: LinearRestorer = (state, restore) =>
  new SplitLinear({
    ...parseAttributes(state, attributes),
    outlier: requireTensor(state, 'outlier'),
    rest: restore(requirePart(state, 'rest')),
  });
