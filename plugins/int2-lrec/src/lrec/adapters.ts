// The adapters that LREC trains: new ones on what is quantized, and those that are there.
import { DenseLinear, type FinetuneContext, type Linear, LowbitError, type Model } from '@lowbit/core';
import { LowRankLinear } from '@lowbit/quant';
import { type Adapters, attachAdapters, isTrainedOn } from '../adapters/attach.js';
import { innerLinear } from '../adapters/wrapped.js';
import type { LrecOptions } from './options.js';

type Context = Pick<FinetuneContext<LrecOptions>, 'optionsFor' | 'rng' | 'warn'>;

/**
 * Adapters in the targeted Linears; those that are wholly dense get none. Warns where rank or alpha are written for an adapter that keeps
 * its own.
 * @throws LINEAR_NOT_QUANTIZED when all are dense; ADAPTER_OVERHEAD.
 */
export function adaptersOn(given: Model, { optionsFor, rng, warn }: Context): Adapters {
  const unlike: string[] = [];
  const corrected = (path: string, linear: Linear): LrecOptions | undefined =>
    linear instanceof DenseLinear ? undefined : optionsFor(path);
  const adapters = attachAdapters(given, corrected, rng.at('adapters'));
  if (adapters.ranks.size === 0) {
    throw new LowbitError(
      'LINEAR_NOT_QUANTIZED',
      "lrec: no targeted Linear is quantized, so there is nothing to correct; put a quantizing step first, or change this step's targets",
    );
  }
  for (const { path, linears } of given.blocks) {
    for (const [name, linear] of Object.entries(linears)) {
      const options = optionsFor(`${path}.${name}`);
      if (options && keepsItsOwn(linear, options)) unlike.push(`${path}.${name}`);
    }
  }
  if (unlike.length > 0) {
    warn(
      'LREC_ADAPTER_KEPT',
      `${unlike.length} adapters, the first of them at ${unlike[0]}, are trained on with the rank and scaling that they have, which are not those of rank and alpha; leave these out, or set stack`,
    );
  }
  return adapters;
}

/** Those alone that were there: what is left where training has gained nothing, because new ones are zero still and cost bits. */
export function oldAdapters(given: Model, { optionsFor, rng }: Context): Adapters {
  const old = (path: string, linear: Linear): LrecOptions | undefined => {
    const options = optionsFor(path);
    return options && isTrainedOn(linear, options) ? options : undefined;
  };
  return attachAdapters(given, old, rng.at('adapters'));
}

/** Whether rank or alpha are written and do not hold, because an adapter that has others is trained on. */
function keepsItsOwn(linear: Linear, options: LrecOptions): boolean {
  const adapter = innerLinear(linear);
  if (!(adapter instanceof LowRankLinear && isTrainedOn(linear, options))) return false;
  const { rank = adapter.rank, alpha = adapter.scaling * adapter.rank } = options;
  return rank !== adapter.rank || Math.abs(alpha / adapter.rank - adapter.scaling) > 1e-9 * adapter.scaling;
}
