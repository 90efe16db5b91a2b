// Axes of charts: from values to a domain with ticks, and to pixels.

export interface Axis {
  readonly type: 'linear' | 'log';
  readonly domain: readonly [number, number];
  readonly ticks: readonly number[];
}

/** Ratio of the largest to the smallest value from which factors are easier to read than differences. */
const LOG_RATIO = 4;

const MOST_TICKS = 7;

/** Difference of values, as a share of their size, that the digits of ticks do not show. */
const SAME = 1e-9;

/** Share of the values' range that is left free on either side. */
const ROOM = 0.08;

/** An axis that holds the values with some room around them; logarithmic where they are positive and differ by factors. */
export function axisOf(values: readonly number[]): Axis {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  if (least <= 0 || most / least <= LOG_RATIO) return linearAxis(values);
  const factor = (most / least) ** ROOM;
  const domain = [least / factor, most * factor] as const;
  return { type: 'log', domain, ticks: logTicks(domain) };
}

export function linearAxis(values: readonly number[]): Axis {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const size = Math.max(Math.abs(least), Math.abs(most));
  // What no tick could tell apart is one value.
  const room = ROOM * (most - least > SAME * size ? most - least : size || 1);
  const domain = [least - room, most + room] as const;
  return { type: 'linear', domain, ticks: linearTicks(domain) };
}

/** From a value to a pixel: 0 at the start of the domain, `length` at its end. */
export function pixelsOf({ type, domain: [from, to] }: Axis, length: number): (value: number) => number {
  const along = type === 'log' ? Math.log : (value: number) => value;
  return (value) => ((along(value) - along(from)) / (along(to) - along(from))) * length;
}

/** Multiples of 1, 2 or 5 times a power of ten. */
function linearTicks([from, to]: readonly [number, number]): number[] {
  const least = (to - from) / MOST_TICKS;
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((n) => n * power).find((one) => one >= least) ?? 10 * power;
  const first = Math.ceil(from / step);
  const count = Math.floor(to / step) - first + 1;
  return Array.from({ length: count }, (_, i) => Number(((first + i) * step).toPrecision(12))).filter((tick) => tick >= from && tick <= to);
}

/** 1, 2 and 5 of each power of ten; the powers alone where these are too many, or some of them, and steps as on a linear axis where they are too few. */
function logTicks([from, to]: readonly [number, number]): number[] {
  const [low, high] = [Math.floor(Math.log10(from)), Math.floor(Math.log10(to))];
  const powers = Array.from({ length: high - low + 1 }, (_, i) => low + i);
  const isInside = (value: number): boolean => value >= from && value <= to;
  for (const digits of [[1, 2, 5], [1, 3], [1]]) {
    const ticks = powers.flatMap((power) => digits.map((digit) => Number(`${digit}e${power}`))).filter(isInside);
    if (ticks.length < 3) return linearTicks([from, to]).filter((tick) => tick > 0);
    if (ticks.length <= MOST_TICKS) return ticks;
  }
  const every = Math.ceil(powers.length / MOST_TICKS);
  return powers
    .filter((power) => power % every === 0)
    .map((power) => Number(`1e${power}`))
    .filter(isInside);
}
