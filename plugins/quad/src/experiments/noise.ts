// What counts as equal.
import { difference, type Sample } from '@lowbit/core/experiments';

/** Nats a token: 0.2 % of perplexity, by which small models of one recipe differ between rotations. */
export const NOISE = 0.002;

/** Whether the first exceeds the second by no more than noise: on average at most 0.002 nats, or the deviation of their difference. */
export function isAtMost(first: Sample, second: Sample): boolean {
  const { mean, deviation } = difference(first, second);
  return mean <= Math.max(NOISE, deviation);
}
