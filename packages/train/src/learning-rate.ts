// Learning rate schedules: plain functions of the step.

/** Learning rate of a step, counted from 1, in a run of `steps` steps. */
export type LearningRate = (step: number, steps: number) => number;

/** The same rate for all steps. */
export const constantRate =
  (rate: number): LearningRate =>
  () =>
    rate;

/** Rises linearly over the first steps and stays; the first step already has a rate. */
export const warmupRate = (peak: number, warmupSteps: number): LearningRate => cosineRate({ peak, warmupSteps, decaySteps: 0 });

export interface CosineOptions {
  readonly peak: number;
  /** Steps of the linear warm-up. Default: 0. */
  readonly warmupSteps?: number;
  /**
   * The cosine covers the last steps; before it the rate stays at its peak (the trapezoid of arXiv 2405.18392). Default: all after the
   * warm-up.
   */
  readonly decaySteps?: number;
  /** Rate of the last step relative to the peak. Default: 0. */
  readonly finalFraction?: number;
}

/**
 * Linear warm-up, a plateau, and half a cosine down (arXiv 1608.03983), whose last step has the final rate: with a fraction of 0 it changes
 * nothing. Past the last step its rate stays. A run of one step has the peak, or it would not train at all.
 */
export function cosineRate({ peak, warmupSteps = 0, decaySteps, finalFraction = 0 }: CosineOptions): LearningRate {
  return (step, steps) => {
    if (steps === 1) return peak;
    if (step <= warmupSteps) return (peak * step) / warmupSteps;
    const decay = decaySteps ?? steps - warmupSteps;
    const passed = step - (steps - decay);
    if (passed <= 0 || decay === 0) return peak;
    const cosine = 0.5 * (1 + Math.cos((Math.PI * Math.min(passed, decay)) / decay));
    return peak * (finalFraction + (1 - finalFraction) * cosine);
  };
}
