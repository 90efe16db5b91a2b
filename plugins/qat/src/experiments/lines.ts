// Losses along lines from the dense model, and what is read off them.
import { type StudyContext, throwIfAborted } from '@lowbit/core';
import { protocol } from './arms.js';
import { distanceOf, mix, modelAt, type Point } from './weight-space.js';

/** The protocol of studies: one look at a model is a pass over these windows, and there are many, so there are 24 and not 40. */
export const studyProtocol = { ...protocol, heldOutWindows: 24 } as const;

/** An axis for losses of several orders of magnitude, the smallest of which may be noise around 0: linear below a hundredth, logarithmic above. */
export const lossAxis = {
  title: 'added loss, nats per token',
  scale: { type: 'symlog', constant: 0.01, nice: false },
  axis: { values: [0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5] },
} as const;

/** A place on a line that leads away from the dense weights. */
export interface Place {
  /** ‖Δ‖/‖w‖. */
  readonly radius: number;
  /** Added loss, nats a token. */
  readonly gap: number;
}

/** Added loss of the model at a point. */
export async function gapAt({ dense, scoresOf, signal }: StudyContext, point: Point): Promise<number> {
  throwIfAborted(signal);
  return (await scoresOf(modelAt(dense, point)))['loss-gap'];
}

/** Places at multiples of the step from one point to another, in their order. */
export async function placesAlong(
  context: StudyContext,
  [from, to]: readonly [Point, Point],
  multiples: readonly number[],
  onPlace?: () => void,
): Promise<Place[]> {
  const distance = distanceOf(from, to);
  const places: Place[] = [];
  for (const multiple of multiples) {
    places.push({ radius: multiple * distance, gap: await gapAt(context, mix([from, to], [1 - multiple, multiple])) });
    onPlace?.();
  }
  return places;
}

/** Added loss at a radius between two places, linear in its square as at the bottom of a bowl; NaN beyond the last place. */
export function gapAtRadius(places: readonly Place[], radius: number): number {
  const inOrder = [{ radius: 0, gap: 0 }, ...places].toSorted((a, b) => a.radius - b.radius);
  const end = inOrder.findIndex((place) => place.radius >= radius);
  if (end < 0) return Number.NaN;
  const [low, high] = [inOrder[Math.max(end - 1, 0)], inOrder[end]];
  const share = high.radius === low.radius ? 1 : (radius ** 2 - low.radius ** 2) / (high.radius ** 2 - low.radius ** 2);
  return low.gap + share * (high.gap - low.gap);
}

/** The largest radius with an added loss of at most `gap`, by the same rule; NaN where the last place has no more. */
export function radiusAtGap(places: readonly Place[], gap: number): number {
  const inOrder = [{ radius: 0, gap: 0 }, ...places].toSorted((a, b) => a.radius - b.radius);
  const start = inOrder.findLastIndex((place) => place.gap <= gap);
  const [low, high] = [inOrder[start], inOrder[start + 1]];
  if (!high) return Number.NaN;
  return Math.sqrt(low.radius ** 2 + ((gap - low.gap) / (high.gap - low.gap)) * (high.radius ** 2 - low.radius ** 2));
}
