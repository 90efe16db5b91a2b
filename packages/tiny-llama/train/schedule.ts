// The learning rate over a run: linear warm-up, a plateau, and a cosine down to a fraction.

export interface Schedule {
  readonly peak: number;
  readonly steps: number;
  readonly warmupSteps: number;
  /** The cosine covers the last steps; before it the rate stays at its peak (the trapezoid of arXiv 2405.18392). */
  readonly decaySteps: number;
  /** Rate of the last step relative to the peak. */
  readonly finalFraction: number;
}

/** Learning rate of a step, counted from 1. */
export function learningRate({ peak, steps, warmupSteps, decaySteps, finalFraction }: Schedule, step: number): number {
  if (step <= warmupSteps) return (peak * step) / warmupSteps;
  const passed = step - (steps - decaySteps);
  if (passed <= 0) return peak;
  const cosine = 0.5 * (1 + Math.cos((Math.PI * Math.min(passed, decaySteps)) / decaySteps));
  return peak * (finalFraction + (1 - finalFraction) * cosine);
}
