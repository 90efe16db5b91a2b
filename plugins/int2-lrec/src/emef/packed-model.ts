// A model on packed codes: what is kept of it while its adapters are trained.
import { type Linear, type Model, materialize } from '@lowbit/core';
import { LowRankLinear, PackedLinear, QuantizedLinear } from '@lowbit/quant';

export interface PackedModel {
  /** In memory: codes packed, everything else as it is stored. */
  readonly model: Model;
  /** Linears on packed codes. */
  readonly linears: number;
  /** Bytes of the packed codes. */
  readonly bytes: number;
}

/**
 * The same model, to the bit, with every affine layer's codes packed, those beneath adapters and wrappers too. One layer's codes are read
 * at a time. Layers of other kinds stay.
 */
export async function packedModel(given: Model): Promise<PackedModel> {
  let [linears, bytes] = [0, 0];
  const pack = async (linear: Linear): Promise<Linear> => {
    if (linear instanceof QuantizedLinear) {
      const packed = await PackedLinear.of(linear);
      linears++;
      bytes += packed.packed.size;
      return packed;
    }
    if (linear instanceof LowRankLinear) return linear.with({ base: await pack(linear.base) });
    const inner = linear.quantizable;
    return inner ? inner.replace(await pack(inner.linear)) : linear;
  };
  let model = given;
  for (const [index, block] of given.blocks.entries()) {
    const changed: Record<string, Linear> = {};
    for (const [name, linear] of Object.entries(block.linears)) changed[name] = await pack(linear);
    model = model.withBlock(index, block.with({ linears: changed }));
  }
  return { model: await materialize(model.with({ head: await pack(model.head) })), linears, bytes };
}
