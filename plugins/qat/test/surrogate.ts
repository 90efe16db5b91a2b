// What gradients are checked against: quantizers in float64, with every rounding replaced by the identity and the constant that it adds.
import { roundHalfEven } from '@lowbit/core';

/** One group of weights as it is trained: values of the parameters by role. */
export interface Values {
  readonly latent: readonly number[];
  readonly [role: string]: number | readonly number[];
}

/** Rounds where it is recorded, and adds the recorded difference where it is replayed. */
export type Rounding = (x: number) => number;

export function recording(): { round: Rounding; replay: () => Rounding } {
  const differences: number[] = [];
  const round: Rounding = (x) => {
    differences.push(roundHalfEven(x) - x);
    return roundHalfEven(x);
  };
  return {
    round,
    replay() {
      let next = 0;
      return (x) => x + differences[next++];
    },
  };
}

/** The grid of a group: scale and what code 0 stands for, with the margin beyond which weights have no gradient. */
export type GridOf = (values: Values, round: Rounding) => { scale: number; offset: number; margin: number; largest: number };

/** ŵ of each weight. Whether one is inside is decided at `at`, where the derivative is taken. */
export function dequantized(gridOf: GridOf, values: Values, at: Values, round: Rounding, roundAt: Rounding): number[] {
  const grid = gridOf(values, round);
  const fixed = gridOf(at, roundAt);
  return values.latent.map((w, i) => {
    const position = (w - grid.offset) / grid.scale;
    const there = (at.latent[i] - fixed.offset) / fixed.scale;
    const isInside = Math.abs(there - fixed.largest / 2) <= fixed.largest / 2 + fixed.margin;
    const code = round(position);
    const bound = Math.max(0, Math.min(fixed.largest, roundHalfEven(there)));
    return grid.scale * (isInside ? code - (roundHalfEven(there) - bound) : bound) + grid.offset;
  });
}
