// Adapters of a model: where they are put, how they begin, and how they are stored.
import { type Linear, LowbitError, type Model, type Rng, readFloats, roundToFloat16, type Tensor, tensor } from '@lowbit/core';
import { LowRankLinear, type ScaleDtype, zeroFactors } from '@lowbit/quant';
import type { NamedTensors } from '@lowbit/train';
import { checkpointBits } from './checkpoint-bits.js';
import type { LrecOptions } from './options.js';
import { type AdaptedLayers, ranksWithin } from './ranks.js';

/** What adapters take of a model's options. */
export type AdapterOptions = Pick<LrecOptions, 'rank' | 'overhead' | 'alpha' | 'start' | 'adapterDtype'>;

export interface Adapters {
  /** The model with an adapter in every targeted Linear. */
  readonly model: Model;
  /** Their factors by name in the model. */
  readonly parameters: NamedTensors;
  /** How each factor is stored. */
  readonly dtypes: ReadonlyMap<string, ScaleDtype>;
  /** Bits of the adapters, and their share of the checkpoint without any. */
  readonly bits: number;
  readonly overhead: number;
  /** Ranks by path of the Linear. */
  readonly ranks: ReadonlyMap<string, number>;
}

/**
 * Gives every targeted Linear that has none an adapter whose B is zero: the model computes, bit for bit, what it did. Adapters that are
 * there, those of a closed form for example, stay as they are and are trained on.
 * @param optionsFor options of a Linear by path; undefined where it is not targeted.
 * @throws LREC_OVERHEAD when the overhead does not pay for a single rank.
 */
export function attachAdapters(
  given: Model,
  options: AdapterOptions,
  optionsFor: (path: string) => AdapterOptions | undefined,
  rng: Rng,
): Adapters {
  const shared = sharedRanks(given, options, optionsFor);
  const parameters = new Map<string, Tensor>();
  const dtypes = new Map<string, ScaleDtype>();
  const ranks = new Map<string, number>();
  let bits = 0;
  let model = given;
  for (const [index, block] of given.blocks.entries()) {
    const linears: Record<string, Linear> = {};
    for (const [name, linear] of Object.entries(block.linears)) {
      const path = `${block.path}.${name}`;
      const wanted = optionsFor(path);
      const rank = wanted?.rank ?? shared.get(name) ?? 0;
      if (!wanted || (rank === 0 && !(linear instanceof LowRankLinear))) continue;
      const adapted =
        linear instanceof LowRankLinear
          ? linear.with({ factorDtype: wanted.adapterDtype })
          : newAdapter(linear, rank, wanted, rng.at(path));
      linears[name] = adapted;
      for (const factor of ['down', 'up'] as const) {
        parameters.set(`${path}.${factor}`, adapted[factor]);
        dtypes.set(`${path}.${factor}`, wanted.adapterDtype);
      }
      ranks.set(path, adapted.rank);
      bits += adapted.storageBits - adapted.base.storageBits;
    }
    model = model.withBlock(index, block.with({ linears }));
  }
  return { model, parameters, dtypes, bits, overhead: bits / checkpointBits(given), ranks };
}

function newAdapter(base: Linear, rank: number, { alpha, start, adapterDtype }: AdapterOptions, rng: Rng): LowRankLinear {
  const { inFeatures, outFeatures } = base;
  const zero = zeroFactors([outFeatures, inFeatures], rank, rng);
  const down = start === 'uniform' ? zero.down : rng.normal(zero.down.length).map((z) => z / rank);
  return new LowRankLinear({
    base,
    down: tensor(stored(down, adapterDtype), [rank, inFeatures]),
    up: tensor(zero.up, [outFeatures, rank]),
    scaling: alpha === undefined ? 1 : alpha / rank,
    factorDtype: adapterDtype,
  });
}

/** Ranks by name within a block of the Linears whose rank follows from the overhead. */
function sharedRanks(
  model: Model,
  { overhead, adapterDtype }: AdapterOptions,
  optionsFor: (path: string) => AdapterOptions | undefined,
): Map<string, number> {
  const layers = new Map<string, AdaptedLayers>();
  for (const { path, linears } of model.blocks) {
    for (const [name, linear] of Object.entries(linears)) {
      const wanted = optionsFor(`${path}.${name}`);
      if (!wanted || wanted.rank !== undefined || linear instanceof LowRankLinear) continue;
      const { inFeatures, outFeatures } = linear;
      layers.set(name, { name, inFeatures, outFeatures, count: (layers.get(name)?.count ?? 0) + 1 });
    }
  }
  if (layers.size === 0 || overhead === undefined) return new Map();
  const total = checkpointBits(model);
  const ranks = ranksWithin((overhead * total) / (adapterDtype === 'float16' ? 16 : 32), [...layers.values()]);
  if ([...ranks.values()].every((rank) => rank === 0)) {
    throw new LowbitError(
      'LREC_OVERHEAD',
      `lrec: ${100 * overhead}% of a checkpoint of ${Math.ceil(total / 8)} bytes do not pay for one adapter of rank 1; raise overhead, or set rank`,
    );
  }
  return ranks;
}

/** Factors as they are stored; what would overflow float16 takes its largest value. */
export async function storedFactors(factors: NamedTensors, dtypes: ReadonlyMap<string, ScaleDtype>): Promise<NamedTensors> {
  const result = new Map<string, Tensor>();
  for (const [name, t] of factors) {
    const isHalf = dtypes.get(name) === 'float16';
    result.set(name, isHalf ? tensor(stored(await readFloats(t), 'float16'), t.shape) : t);
  }
  return result;
}

const LARGEST_FLOAT16 = 65504;

function stored(values: Float32Array, dtype: ScaleDtype): Float32Array {
  return dtype === 'float32' ? values : values.map((x) => roundToFloat16(Math.max(-LARGEST_FLOAT16, Math.min(LARGEST_FLOAT16, x))));
}
