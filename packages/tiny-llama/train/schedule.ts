// The learning rate over a run, in cycles: linear warm-up, a plateau, and a cosine down to a fraction.
import { cosineRate } from '@lowbit/train';

export interface Cycle {
  readonly peak: number;
  readonly steps: number;
  readonly warmupSteps: number;
  /** The cosine covers the last steps; before it the rate stays at its peak (the trapezoid of arXiv 2405.18392). */
  readonly decaySteps: number;
  /** Rate of the last step relative to the peak. */
  readonly finalFraction: number;
}

/** Cycles one after another: a warm restart prolongs a run that had ended (arXiv 1608.03983). */
export type Schedule = readonly Cycle[];

export const totalSteps = (schedule: Schedule): number => schedule.reduce((total, { steps }) => total + steps, 0);

/** Learning rate of a step, counted from 1; past the last cycle its final rate. */
export function learningRate(schedule: Schedule, step: number): number {
  const [cycle, ...rest] = schedule;
  return rest.length > 0 && step > cycle.steps ? learningRate(rest, step - cycle.steps) : cosineRate(cycle)(step, cycle.steps);
}
