// A wrapper that keeps its first inputs in full precision, as QUAD's layers do, and the transform that puts it on every Linear.
import {
  add,
  DenseLinear,
  defineMethod,
  type Linear,
  type LinearState,
  linear,
  type QuantizablePart,
  requireDense,
  slice,
  type Tensor,
} from '@lowbit/core';
import { z } from 'zod';

export class SplitLinear implements Linear {
  readonly kind = 'test-split';
  /** [out, columns]: the weights of the first inputs. */
  readonly frozen: Tensor;
  /** Reads the other inputs. */
  readonly rest: Linear;

  constructor(frozen: Tensor, rest: Linear) {
    this.frozen = frozen;
    this.rest = rest;
  }

  get columns(): number {
    return this.frozen.shape[1];
  }

  get inFeatures(): number {
    return this.columns + this.rest.inFeatures;
  }

  get outFeatures(): number {
    return this.rest.outFeatures;
  }

  get storageBits(): number {
    return this.frozen.size * 16 + this.rest.storageBits;
  }

  get quantizable(): QuantizablePart {
    return { linear: this.rest, start: this.columns, end: this.inFeatures, replace: (rest) => new SplitLinear(this.frozen, rest) };
  }

  forward(x: Tensor): Tensor {
    return add(linear(slice(x, -1, 0, this.columns), this.frozen), this.rest.forward(slice(x, -1, this.columns, this.inFeatures)));
  }

  effectiveWeight(): Tensor {
    throw new Error('not needed here');
  }

  withWeight(weight: Tensor): Linear {
    return new DenseLinear(weight);
  }

  map(map: (t: Tensor, name: string) => Tensor): SplitLinear {
    return new SplitLinear(
      map(this.frozen, 'frozen'),
      this.rest.map((t, name) => map(t, `rest.${name}`)),
    );
  }

  state(): LinearState {
    return { kind: this.kind, attributes: {}, tensors: { frozen: this.frozen }, parts: { rest: this.rest.state() } };
  }
}

export const splitAll = defineMethod({
  name: 'test-split',
  version: 1,
  options: z.strictObject({ columns: z.int().positive() }),
  async transform(model, { options: { columns } }) {
    const split = (whole: Linear, path: string): Linear => {
      const { weight, bias } = requireDense(whole, path);
      const rest = new DenseLinear(slice(weight, 1, columns, whole.inFeatures), bias);
      return new SplitLinear(slice(weight, 1, 0, columns), rest);
    };
    return model.with({
      blocks: model.blocks.map((block) =>
        block.with({ linears: Object.fromEntries(Object.entries(block.linears).map(([name, whole]) => [name, split(whole, name)])) }),
      ),
    });
  },
});
