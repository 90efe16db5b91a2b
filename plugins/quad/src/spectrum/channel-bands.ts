// The spread of each channel of an activation over tokens: extremes and percentiles, on the host.

/** One value a channel: the extremes, and percentiles interpolated between neighbouring values. */
export interface ChannelBands {
  readonly min: Float32Array;
  readonly p1: Float32Array;
  readonly p25: Float32Array;
  readonly p75: Float32Array;
  readonly p99: Float32Array;
  readonly max: Float32Array;
}

/** Names of the bands, from the lowest to the highest. */
export const bandNames = ['min', 'p1', 'p25', 'p75', 'p99', 'max'] as const satisfies readonly (keyof ChannelBands)[];

const shares: Readonly<Record<keyof ChannelBands, number>> = { min: 0, p1: 0.01, p25: 0.25, p75: 0.75, p99: 0.99, max: 1 };

/** Of values in parts [channels, tokens of the part], channel by channel; there is at least one token. */
export function channelBands(parts: readonly Float32Array[], channels: number): ChannelBands {
  const bands = Object.fromEntries(bandNames.map((name) => [name, new Float32Array(channels)])) as Record<keyof ChannelBands, Float32Array>;
  const values = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0) / channels);
  for (let channel = 0; channel < channels; channel++) {
    let filled = 0;
    for (const part of parts) {
      const tokens = part.length / channels;
      values.set(part.subarray(channel * tokens, (channel + 1) * tokens), filled);
      filled += tokens;
    }
    values.sort();
    for (const name of bandNames) bands[name][channel] = percentile(values, shares[name]);
  }
  return bands;
}

/** The value below which this share of the sorted values lies, interpolated linearly (Hyndman & Fan, 1996, definition 7). */
export function percentile(sorted: Float32Array, share: number): number {
  const position = share * (sorted.length - 1);
  const below = Math.floor(position);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (position - below) * (sorted[above] - sorted[below]);
}

/** The same bands of a stretch of channels [start, end) as one: its extremes, and the means of its percentiles. */
export function bandsOver(bands: ChannelBands, start: number, end: number): Record<keyof ChannelBands, number> {
  const over = (name: keyof ChannelBands, pick: (values: Float32Array) => number): number => pick(bands[name].subarray(start, end));
  const mean = (values: Float32Array): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  return {
    min: over('min', (values) => values.reduce((a, b) => Math.min(a, b))),
    p1: over('p1', mean),
    p25: over('p25', mean),
    p75: over('p75', mean),
    p99: over('p99', mean),
    max: over('max', (values) => values.reduce((a, b) => Math.max(a, b))),
  };
}
