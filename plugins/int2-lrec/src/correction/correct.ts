// The correction of one layer, over arrays: which low-rank part, beside which quantized weight, and what it gains.
import type { Backend, Rng } from '@lowbit/core';
import {
  type AffineWeight,
  bestCorrection,
  correctionOf,
  type InputRoot,
  identityRoot,
  type LowRankFactors,
  loftq,
  pissa,
  rootNorm,
  type ScaleDtype,
} from '@lowbit/quant';
import { storedValues } from '../adapters/stored-factors.js';
import { roundLike } from '../round-like.js';
import type { RoundingForm } from './options.js';

/** A layer and the adapter that it is to get. */
export interface CorrectedLayer {
  readonly backend: Backend;
  readonly path: string;
  /** [out, in] */
  readonly shape: readonly [number, number];
  /** W, [out, in] */
  readonly weight: Float32Array;
  /** Ŵ, what the layer has in its place, adapters included. */
  readonly given: Float32Array;
  readonly rank: number;
  /** γ of the adapter. */
  readonly scaling: number;
  /** How its factors are stored. */
  readonly factorDtype: ScaleDtype;
  readonly rng: Rng;
}

/** γ · up · down beside a quantized weight, and the norms of what is wrong without and with it. */
export interface FoundCorrection extends LowRankFactors {
  /** ‖(W − Ŵ) S‖ / ‖W S‖ of the given layer. */
  readonly errorBefore: number;
  /** The same of the new one, with factors as they are stored. */
  readonly errorAfter: number;
}

/** The best correction of a weight whose codes stay. */
export async function correctFrozen(layer: CorrectedLayer, root: InputRoot): Promise<FoundCorrection> {
  const error = difference(layer.weight, layer.given);
  return measured(layer, root, error, await bestCorrection(layer.backend, error, layer.shape, root, layer));
}

/** A correction together with new codes. */
interface RoundedCorrection extends FoundCorrection {
  readonly quantized: AffineWeight;
}

/** A correction of a weight that is rounded again as `like` is, judged by the error of the weight. */
export async function correctRounding(
  layer: CorrectedLayer,
  like: AffineWeight,
  form: RoundingForm,
  rounds: number,
): Promise<RoundedCorrection> {
  const { backend, weight, shape, path } = layer;
  const { factors, rounded } = form === 'loftq' ? await alternate() : await largestFirst();
  return { quantized: rounded.quantized, ...(await measured(layer, identityRoot, difference(weight, rounded.weight), factors)) };

  async function alternate() {
    const found = await loftq(
      backend,
      weight,
      shape,
      async (target) => {
        const rounded = await roundLike(backend, target, like, path);
        return { quantized: rounded, weight: rounded.weight };
      },
      { ...layer, rounds },
    );
    return { factors: found, rounded: found.quantized };
  }

  async function largestFirst() {
    const found = await pissa(backend, weight, shape, layer);
    return { factors: found, rounded: await roundLike(backend, found.residual, like, path) };
  }
}

/** @param error of the weight that the factors stand beside. */
async function measured(
  { backend, shape, weight, given, scaling, factorDtype }: CorrectedLayer,
  root: InputRoot,
  error: Float32Array,
  factors: LowRankFactors,
): Promise<FoundCorrection> {
  const stored = { down: storedValues(factors.down, factorDtype), up: storedValues(factors.up, factorDtype) };
  const left = difference(error, await correctionOf(backend, stored, shape, scaling));
  const whole = await rootNorm(backend, weight, shape, root);
  // Where no output depends on the weight there is nothing to get wrong.
  const relative = async (values: Float32Array): Promise<number> =>
    whole === 0 ? 0 : (await rootNorm(backend, values, shape, root)) / whole;
  return { ...stored, errorBefore: await relative(difference(weight, given)), errorAfter: await relative(left) };
}

function difference(a: Float32Array, b: Float32Array): Float32Array {
  return a.map((value, i) => value - b[i]);
}
