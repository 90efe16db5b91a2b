// Windows to judge on are set aside before training.
import type { Rng } from '@lowbit/core';

/** Which windows are trained on and which are judged on: indices, each list in order. */
export interface WindowSplit {
  readonly trained: readonly number[];
  readonly heldOut: readonly number[];
}

/** Holds out a share of `count` windows, drawn; at least one where the share is not 0 and one remains to train on. */
export function splitWindows(count: number, share: number, rng: Rng): WindowSplit {
  const held = share === 0 || count < 2 ? 0 : Math.min(count - 1, Math.max(1, Math.round(share * count)));
  const heldOut = new Set(rng.permutation(count).subarray(0, held));
  const all = Array.from({ length: count }, (_, i) => i);
  return { trained: all.filter((i) => !heldOut.has(i)), heldOut: all.filter((i) => heldOut.has(i)) };
}
