// Adapters that are to be trained: where they are put, and how they begin.
import { type Linear, type Model, type Rng, type Tensor, tensor, tensorsOf } from '@lowbit/core';
import { LowRankLinear, type ScaleDtype, zeroFactors } from '@lowbit/quant';
import type { NamedTensors } from '@lowbit/train';
import { checkpointBits } from './checkpoint-bits.js';
import { adapterRanks, type RankOptions } from './ranks.js';
import { storedValues } from './stored-factors.js';
import { innerLinear, withInner } from './wrapped.js';

/** What adapters take of a method's options. */
export interface AdapterOptions extends RankOptions {
  /** The adapter is scaled by alpha / rank; by 1 without it. */
  readonly alpha?: number | undefined;
  /** How A is drawn: in ±1/√inputs, or with deviation 1/rank. */
  readonly start: 'uniform' | 'normal';
  /** A new adapter on top of one that is there; else that one is trained on. */
  readonly stack: boolean;
}

export interface Adapters {
  /** The model with an adapter in every targeted Linear. */
  readonly model: Model;
  /** The factors that are to be trained, by name in the model. */
  readonly parameters: NamedTensors;
  /** How each factor is stored. */
  readonly dtypes: ReadonlyMap<string, ScaleDtype>;
  /** Bits of these adapters, and their share of the checkpoint without any. */
  readonly bits: number;
  readonly overhead: number;
  /** Ranks by path of the Linear. */
  readonly ranks: ReadonlyMap<string, number>;
}

/**
 * Gives every targeted Linear that has none, and with `stack` every targeted Linear, an adapter whose B is zero: the model computes,
 * bit for bit, what it did. Without `stack`, adapters that are there, those of a closed form for example, are trained on. In a Linear that
 * quantizes its input, adapters read what the codes read: they are inside, where closed forms put them and where they can be merged.
 * @param optionsFor options of a Linear by path; undefined where it is not targeted.
 * @throws ADAPTER_OVERHEAD when the overhead does not pay for a single rank.
 */
export function attachAdapters(given: Model, optionsFor: (path: string, linear: Linear) => AdapterOptions | undefined, rng: Rng): Adapters {
  const newRanks = adapterRanks(given, (path, linear) => {
    const options = optionsFor(path, linear);
    return options && isTrainedOn(linear, options) ? undefined : options;
  });
  const parameters = new Map<string, Tensor>();
  const dtypes = new Map<string, ScaleDtype>();
  const ranks = new Map<string, number>();
  let bits = 0;
  let model = given;
  for (const [index, block] of given.blocks.entries()) {
    const linears: Record<string, Linear> = {};
    for (const [name, linear] of Object.entries(block.linears)) {
      const path = `${block.path}.${name}`;
      const options = optionsFor(path, linear);
      const adapted = options && adapt(innerLinear(linear), newRanks.get(path), options, rng.at(path));
      if (!adapted) continue;
      linears[name] = withInner(linear, adapted);
      // What wraps the adapter decides how its factors are called.
      for (const [factor, t] of tensorsOf(linears[name])) {
        if (t !== adapted.down && t !== adapted.up) continue;
        parameters.set(`${path}.${factor}`, t);
        dtypes.set(`${path}.${factor}`, options.adapterDtype);
      }
      ranks.set(path, adapted.rank);
      bits += adapted.storageBits - adapted.base.storageBits;
    }
    model = model.withBlock(index, block.with({ linears }));
  }
  return { model, parameters, dtypes, bits, overhead: bits / checkpointBits(given), ranks };
}

/** Whether a Linear gets no new adapter, because the one that it has is trained on. */
export function isTrainedOn(linear: Linear, { stack }: AdapterOptions): boolean {
  return !stack && innerLinear(linear) instanceof LowRankLinear;
}

/** The layer with the adapter that is to be trained outermost. @param rank of a new adapter; undefined to train on the one that is there. */
function adapt(linear: Linear, rank: number | undefined, options: AdapterOptions, rng: Rng): LowRankLinear | undefined {
  if (rank === undefined) return linear instanceof LowRankLinear ? linear.with({ factorDtype: options.adapterDtype }) : undefined;
  return rank === 0 ? undefined : newAdapter(linear, rank, options, rng);
}

function newAdapter(base: Linear, rank: number, { alpha, start, adapterDtype }: AdapterOptions, rng: Rng): LowRankLinear {
  const { inFeatures, outFeatures } = base;
  const zero = zeroFactors([outFeatures, inFeatures], rank, rng);
  const down = start === 'uniform' ? zero.down : rng.normal(zero.down.length).map((z) => z / rank);
  return new LowRankLinear({
    base,
    down: tensor(storedValues(down, adapterDtype), [rank, inFeatures]),
    up: tensor(zero.up, [outFeatures, rank]),
    scaling: alpha === undefined ? 1 : alpha / rank,
    factorDtype: adapterDtype,
  });
}
