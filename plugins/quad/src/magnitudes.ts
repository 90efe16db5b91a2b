// How large the inputs of a Linear are, channel by channel, in a few numbers for a log.
import { percentile } from './spectrum/channel-bands.js';

/** Shares of the channels, from the quietest to the loudest, at which their magnitudes are given: few outliers lie close to 1. */
export const channelShares = [0, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 1] as const;

/** Of what a layer reads, without columns in full precision. */
export interface InputMagnitudes {
  readonly channels: number;
  readonly tokens: number;
  /** Root mean square over all channels and tokens. */
  readonly rms: number;
  /** The largest magnitude of a channel over tokens, at each of `channelShares`; the last is the largest of all. */
  readonly largest: readonly number[];
  /** The root mean square of a channel over tokens, likewise. */
  readonly channelRms: readonly number[];
}

/** From the statistics `absmax` and `energy` [channels] of the inputs of so many tokens. */
export function inputMagnitudes(absmax: Float32Array, energy: Float32Array, tokens: number): InputMagnitudes {
  const channels = absmax.length;
  const total = energy.reduce((sum, one) => sum + one, 0);
  return {
    channels,
    tokens,
    rms: Math.sqrt(total / (channels * tokens)),
    largest: atShares(absmax),
    channelRms: atShares(energy.map((one) => Math.sqrt(one / tokens))),
  };
}

function atShares(values: Float32Array): number[] {
  const sorted = values.toSorted();
  return channelShares.map((share) => percentile(sorted, share));
}
